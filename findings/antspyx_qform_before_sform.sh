#!/usr/bin/env bash
# antspyx 0.6.3 and nibabel 5.4.2 place the same NIfTI file differently if its two forms differ.
#
# nibabel takes the sform whenever it has a code. ants.image_read, by ITK, takes it only if its code
# is 1 (scanner) or there is no qform; with the code 2 or more (aligned, Talairach, MNI) it takes the
# qform. A mask that a program writes with both forms set to the sform then lies elsewhere than its
# image in programs built on ITK, and not in those built on nibabel. Seen with numpy 2.3.5.
#
# Output seen, of a qform at x = 0 and an sform at x = 30 mm:
#     codes 1 and 1: nibabel 30, antspyx 30
#     codes 1 and 2: nibabel 30, antspyx 0
#     codes 0 and 2: nibabel 30, antspyx 30
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    antspyx==0.6.3 nibabel==5.4.2 numpy==2.3.5
"$folder/venv/bin/python" - "$folder/image.nii" <<'PYTHON'
import sys

import ants
import nibabel as nib
import numpy as np

path = sys.argv[1]
found = {}
for codes in ((1, 1), (1, 2), (0, 2)):
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4))
    image.set_qform(np.eye(4), code=codes[0])
    aside = np.eye(4)
    aside[0, 3] = 30
    image.set_sform(aside, code=codes[1])
    image.to_filename(path)
    # ITK counts x from the right.
    found[codes] = [nib.load(path).affine[0, 3], 0 - ants.image_read(path).origin[0]]
    print(f"codes {codes[0]} and {codes[1]}: nibabel {found[codes][0]:g}, antspyx {found[codes][1]:g}")
assert found == {(1, 1): [30, 30], (1, 2): [30, 0], (0, 2): [30, 30]}
PYTHON
