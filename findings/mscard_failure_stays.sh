#!/usr/bin/env bash
# mscard 0.1.0: a participant that failed once is reported as failed ever after.
#
# A failure leaves FAILED.txt, which no later run removes. So once its cause is gone, and the same
# command into the same folder succeeds with exit status 0, the page of the participant still shows
# the old error above the new numbers, and the page of all of them says FAILED. Here the first run
# has one visit only. Seen with lesiontrack 0.2.0, picsl_greedy 1.4.0.3, numpy 2.3.5 and pandas
# 3.1.1.
#
# Output seen:
#     one visit, folder a: exit status 1, FAILED.txt, said to have failed
#     two visits, folder a: exit status 0, FAILED.txt, said to have failed
#     two visits, folder b: exit status 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    matplotlib==3.11.2 nibabel==5.4.2 numpy==2.3.5 pandas==3.1.1 scikit-image==0.26.0 scipy==1.15.3
# Of what picsl_greedy asks for, SimpleITK is large and not used here.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    lesiontrack==0.2.0 mscard==0.1.0 picsl_greedy==1.4.0.3
cd "$folder"
venv/bin/python - <<'PYTHON'
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter


def ball(centre, radius):
    axes = np.ogrid[:40, :40, :40]
    return sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True)) < radius**2


def save(name, data):
    nib.Nifti1Image(data, np.eye(4)).to_filename(name)


def run(visits, out):
    rows = ["subject session time_years t1 flair mask brainmask"]
    files = "t1.nii.gz flair.nii.gz mask.nii.gz brain.nii.gz"
    rows += [f"sub-01 ses-{at} {at} {files}" for at in range(visits)]
    Path("manifest.tsv").write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    options = ["--out", out, "--no-calibrate", "--threads", "1"]
    command = ["venv/bin/mscard", "run", "manifest.tsv", *options]
    status = subprocess.run(command, capture_output=True).returncode
    stays = Path(out, "sub-01", "FAILED.txt").exists()
    page = Path(out, "sub-01", "report.html")
    said = "FAILED" in Path(out, "index.html").read_text()
    assert not page.exists() or ("This subject failed" in page.read_text()) == said
    told = ", FAILED.txt" * stays + ", said to have failed" * said
    print(f"{('one visit', 'two visits')[visits - 1]}, folder {out}: exit status {status}{told}")
    return status, stays, said


texture = gaussian_filter(np.random.default_rng(0).normal(size=(40, 40, 40)), 2)
brain = ball((20, 20, 20), 17)
head = np.where(brain, 100 + 200 * texture, 0).astype(np.float32)
save("t1.nii.gz", head)
save("flair.nii.gz", head)
save("brain.nii.gz", brain.astype(np.uint8))
save("mask.nii.gz", ball((13, 20, 20), 4).astype(np.uint8))
assert run(1, "a") == (1, True, True)
assert run(2, "a") == (0, True, True)
assert run(2, "b") == (0, False, False)
PYTHON
