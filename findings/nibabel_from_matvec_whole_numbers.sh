#!/usr/bin/env bash
# nibabel 5.4.2: affines.from_matvec cuts the fraction off a translation if the matrix is of whole
# numbers.
#
# The affine has the type of the matrix, not the common type of matrix and vector. So a grid of
# averaged blocks, whose scale np.diag([2, 2, 1]) is of whole numbers and whose first centre lies
# half a voxel further, is placed half a voxel off, without a word. Registration then finds this
# shift. The same numbers as floats give the right affine. Seen with numpy 2.3.5.
#
# Output seen:
#     whole numbers: type int64, translation [0, 0, 0]
#     floats: type float64, translation [0.5, 0.5, 0.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nibabel==5.4.2 numpy==2.3.5
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import numpy as np
from nibabel.affines import from_matvec

warnings.simplefilter("error")
half = [0.5, 0.5, 0.0]
whole, floats = (from_matvec(np.diag([2, 2, 1]).astype(kind), half) for kind in (int, float))
for name, affine in {"whole numbers": whole, "floats": floats}.items():
    print(f"{name}: type {affine.dtype}, translation {affine[:3, 3].tolist()}")
assert whole.dtype == np.int64
assert whole[:3, 3].tolist() == [0, 0, 0]
assert floats[:3, 3].tolist() == half
PYTHON
