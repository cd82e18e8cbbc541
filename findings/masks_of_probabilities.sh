#!/usr/bin/env bash
# lesiontrack 0.2.0, bidsgate 0.3.0 and msdataqc 0.1.0 find different lesions in the same mask if it
# holds probabilities.
#
# lesiontrack takes what is above 0, bidsgate what is at least 0.5 (its readme says so, and that it
# takes probabilities), msdataqc what is above 0.5. Each takes a mask of decimal numbers without a
# warning. So the same file gives other counts in tools that are used side by side. Seen with
# picsl_greedy 1.4.0.3, numpy 2.3.5, scipy 1.15.3 and pandas 3.1.1.
#
# Output seen, of three lesions with the probabilities 0.1, 0.5 and 0.9:
#     lesiontrack: 3
#     bidsgate: 2
#     msdataqc: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    matplotlib==3.11.2 nibabel==5.4.2 numpy==2.3.5 pandas==3.1.1 scikit-image==0.26.0 scipy==1.15.3
# Of what these ask for, SimpleITK is large and not used here.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    lesiontrack==0.2.0 bidsgate==0.3.0 msdataqc==0.1.0 picsl_greedy==1.4.0.3
cd "$folder"
venv/bin/python - <<'PYTHON'
import json
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


def run(*command):
    command = [f"venv/bin/{command[0]}", *command[1:]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


texture = gaussian_filter(np.random.default_rng(0).normal(size=(40, 40, 40)), 2)
head = np.where(ball((20, 20, 20), 17), 100 + 200 * texture, 0).astype(np.float32)
save("t1.nii.gz", head)
save("flair.nii.gz", head)
lesions = [ball((at, 20, 20), 3) for at in (11, 20, 29)]
probabilities = 0.1 * lesions[0] + 0.5 * lesions[1] + 0.9 * lesions[2]
save("mask.nii.gz", probabilities.astype(np.float32))

rows = ["subject session time_years t1 flair mask"]
rows += [f"sub-01 ses-{at} {at} t1.nii.gz flair.nii.gz mask.nii.gz" for at in (0, 1)]
Path("manifest.tsv").write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
run("lesiontrack", "run", "manifest.tsv", "--out", "track", "--threads", "1")
summary = json.loads(Path("track/sub-01/summary.json").read_text())
found = {"lesiontrack": summary["baseline_lesion_count"]}

anat = Path("truth/sub-01/anat")
anat.mkdir(parents=True)
numbered = sum(at * lesion.astype(np.uint8) for at, lesion in enumerate(lesions, 1))
save(anat / "sub-01_desc-lesionTruth_mask.nii.gz", numbered.astype(np.uint8))
truth = [{"id": at, "volume_mm3": int(lesion.sum())} for at, lesion in enumerate(lesions, 1)]
(anat / "sub-01_desc-lesion_truth.json").write_text(json.dumps({"lesions": truth}))
options = ["--pred", "mask.nii.gz", "--pipeline", "x", "--out", "score"]
run("bidsgate", "score-lesions", "--truth", "truth", *options)
(score,) = json.loads(Path("score/scores_lesions.json").read_text())["results"]
found["bidsgate"] = score["score"]["detected"]

counts = run("msdataqc", "lesioncount", "mask.nii.gz")
found["msdataqc"] = json.loads(counts.splitlines()[-1])["default_26conn"]
for name, count in found.items():
    print(f"{name}: {count}")
assert found == {"lesiontrack": 3, "bidsgate": 2, "msdataqc": 1}
PYTHON
