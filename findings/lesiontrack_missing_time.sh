#!/usr/bin/env bash
# lesiontrack 0.2.0: a visit whose time is "n/a" is taken, and its classes are wrong.
#
# The time is read as not a number, which passes the test that a visit comes after the baseline. No
# rate can be computed then, and lesions that both visits have all get the class that is left when
# no comparison holds, trend_down: one that doubled too. The run succeeds. Its summary.json holds
# NaN, which is not JSON. Seen with picsl_greedy 1.4.0.3, numpy 2.3.5 and pandas 3.1.1.
#
# Output seen, of one lesion that grows and one that stays:
#     after 1 year: exit status 0, classes enlarging, stable
#     after n/a years: exit status 0, classes trend_down, trend_down
#     NaN in summary.json: yes
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    matplotlib==3.11.2 nibabel==5.4.2 numpy==2.3.5 pandas==3.1.1 scikit-image==0.26.0 scipy==1.15.3
# Of what picsl_greedy asks for, SimpleITK is large and not used here.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    lesiontrack==0.2.0 picsl_greedy==1.4.0.3
cd "$folder"
venv/bin/python - <<'PYTHON'
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter


def ball(centre, radius):
    axes = np.ogrid[:40, :40, :40]
    return sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True)) < radius**2


def save(name, data):
    nib.Nifti1Image(data, np.eye(4)).to_filename(name)


texture = gaussian_filter(np.random.default_rng(0).normal(size=(40, 40, 40)), 2)
head = np.where(ball((20, 20, 20), 17), 100 + 200 * texture, 0).astype(np.float32)
save("t1.nii.gz", head)
save("flair.nii.gz", head)
stays = ball((13, 20, 20), 4)
save("before.nii.gz", (stays | ball((27, 20, 20), 3)).astype(np.uint8))
save("after.nii.gz", (stays | ball((27, 20, 20), 4)).astype(np.uint8))
found = {}
for out, years in (("known", "1"), ("missing", "n/a")):
    rows = [
        "subject session time_years t1 flair mask",
        "sub-01 ses-1 0 t1.nii.gz flair.nii.gz before.nii.gz",
        f"sub-01 ses-2 {years} t1.nii.gz flair.nii.gz after.nii.gz",
    ]
    Path("manifest.tsv").write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    command = ["venv/bin/lesiontrack", "run", "manifest.tsv", "--out", out, "--threads", "1"]
    run = subprocess.run(command, capture_output=True)
    table = pd.read_csv(f"{out}/sub-01/lesion_tracking.tsv", sep="\t")
    found[years] = run.returncode, sorted(table["class"])
    name = "1 year" if years == "1" else f"{years} years"
    print(f"after {name}: exit status {run.returncode}, classes {', '.join(found[years][1])}")
is_nan = "NaN" in Path("missing/sub-01/summary.json").read_text()
print(f"NaN in summary.json: {'yes' if is_nan else 'no'}")
assert found == {"1": (0, ["enlarging", "stable"]), "n/a": (0, ["trend_down", "trend_down"])}
assert is_nan
PYTHON
