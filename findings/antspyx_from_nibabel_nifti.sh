#!/usr/bin/env bash
# antspyx 0.6.3: ants.from_nibabel_nifti changes the header of the image that it is given.
#
# An image without units in its header comes back with units of mm and seconds, so a file that is
# written from it afterwards differs from one that was written before. An affine with a small shear
# (here 0.0005, as of directions that were stored with few digits) loses it without a word: a voxel
# at the far end of the image moves. Both are seen with nibabel 5.4.2 and numpy 2.3.5.
#
# Output seen:
#     units before: unknown, after: mm
#     largest change of a direction: 0.0005
#     a message about the shear: no
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    antspyx==0.6.3 nibabel==5.4.2 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io

import ants
import nibabel as nib
import numpy as np

affine = np.eye(4)
affine[:3, :3] = [[0.98, -0.17, 0], [0.17, 0.98, 0.0005], [0, 0, 1]]
image = nib.Nifti1Image(np.zeros((8, 9, 10), np.float32), affine)
before = image.header.get_xyzt_units()[0]
printed = io.StringIO()
with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
    found = ants.from_nibabel_nifti(image)
after = image.header.get_xyzt_units()[0]
expected = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3] / nib.affines.voxel_sizes(affine)
change = np.abs(np.asarray(found.direction) - expected).max()
told = "shear" in printed.getvalue().lower()
print(f"units before: {before}, after: {after}")
print(f"largest change of a direction: {change:.1g}")
print(f"a message about the shear: {'yes' if told else 'no'}")
assert (before, after) == ("unknown", "mm")
assert 4e-4 < change < 6e-4
assert not told
PYTHON
