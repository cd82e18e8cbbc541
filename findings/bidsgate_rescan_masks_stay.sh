#!/usr/bin/env bash
# bidsgate 0.3.0: rescanphantom doesn't run the command it is given if its folder holds masks of
# another.
#
# A mask that an earlier run left is taken as the result, whatever --cmd is. So a second method, or
# a corrected one, that is measured in the same folder gets the numbers of the first, without a
# word; a command that fails passes too. Seen with numpy 2.3.5, scipy 1.15.3 and pandas 3.1.1.
#
# Output seen, of a command that finds one lesion, one that finds two, and one that fails:
#     one, folder a: exit status 0, lesions 1
#     two, folder a: exit status 0, lesions 1
#     fails, folder a: exit status 0, lesions 1
#     two, folder b: exit status 0, lesions 2
#     fails, folder c: exit status 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    bidsgate==0.3.0 nibabel==5.4.2 numpy==2.3.5 pandas==3.1.1 scipy==1.15.3
cd "$folder"
venv/bin/python - <<'PYTHON'
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd


def save(name, data):
    nib.Nifti1Image(data, np.eye(4)).to_filename(name)


def measure(name, command, out):
    images = ["t1.nii.gz", "flair.nii.gz"]
    options = ["--cmd", command, "--out", out, "--k", "2"]
    pairs = Path(out, "pairs.tsv")
    pairs.unlink(missing_ok=True)
    tool = ["venv/bin/bidsgate", "rescanphantom"]
    run = subprocess.run([*tool, *images, *options], capture_output=True)
    lesions = int(pd.read_csv(pairs, sep="\t")["lesions_a"].iloc[0]) if pairs.exists() else None
    found = f", lesions {lesions}" if pairs.exists() else ""
    print(f"{name}, folder {out}: exit status {run.returncode}{found}")
    return run.returncode, lesions


head = np.full((20, 20, 20), 100, np.float32)
save("t1.nii.gz", head)
save("flair.nii.gz", head)
mask = np.zeros((20, 20, 20), np.uint8)
mask[4:8, 8:12, 8:12] = 1
save("one.nii.gz", mask)
mask[12:16, 8:12, 8:12] = 1
save("two.nii.gz", mask)
assert measure("one", "cp one.nii.gz {out}", "a") == (0, 1)
assert measure("two", "cp two.nii.gz {out}", "a") == (0, 1)
assert measure("fails", "false", "a") == (0, 1)
assert measure("two", "cp two.nii.gz {out}", "b") == (0, 2)
assert measure("fails", "false", "c") == (1, None)
PYTHON
