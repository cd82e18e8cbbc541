#!/usr/bin/env bash
# nibabel 5.4.2: some empty parts of an image can't be read from a file, others can.
#
# A part without voxels, as where two boxes don't overlap, is an empty array in memory. From an
# uncompressed file with voxels of one byte, one that is empty at the end of the second axis raises
# OSError (errno 22, of mmap), as if the file were damaged; at the end of the first axis it is empty.
# Seen with numpy 2.3.5 on Linux.
#
# Output seen:
#     end of the first axis: (0, 28, 22)
#     end of the second axis: OSError 22
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nibabel==5.4.2 numpy==2.3.5
cd "$folder"
venv/bin/python - <<'PYTHON'
import nibabel as nib
import numpy as np

data = np.ones((24, 28, 22), np.uint8)
nib.Nifti1Image(data, np.eye(4)).to_filename("mask.nii")
ends = {"first": (slice(24, 24), slice(0, 28)), "second": (slice(0, 24), slice(28, 28))}
found = {}
for name, (x, y) in ends.items():
    part = x, y, slice(0, 22)
    assert data[part].size == 0
    try:
        found[name] = str(nib.load("mask.nii").dataobj[part].shape)
    except OSError as error:
        found[name] = f"OSError {error.errno}"
    print(f"end of the {name} axis: {found[name]}")
assert found == {"first": "(0, 28, 22)", "second": "OSError 22"}
PYTHON
