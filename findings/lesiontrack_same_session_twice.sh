#!/usr/bin/env bash
# lesiontrack 0.2.0: of two visits with the same session name, one silently gets the masks of the
# other.
#
# The files of a visit are named after its session only. The last visit is registered first, so an
# earlier one of the same name overwrites its files, and the table has two rows for each lesion,
# with the times of both visits and the volumes of the earlier. Growth that only the last scan shows
# is lost, without an error or a warning. Seen with picsl_greedy 1.4.0.3, numpy 2.3.5 and pandas
# 3.1.1.
#
# Output seen, of a lesion of 251 mm3 at 0 and 1 year and 437 mm3 at 2 years:
#     ses-2 and ses-3: 1 year 251 mm3 stable, 2 years 437 mm3 enlarging
#     ses-2 and ses-2: 1 year 251 mm3 stable, 2 years 251 mm3 stable
#     exit status of both: 0
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
save("small.nii.gz", ball((14, 20, 20), 4).astype(np.uint8))
save("large.nii.gz", ball((14, 20, 20), 4.6).astype(np.uint8))
found = {}
for last in ("ses-3", "ses-2"):
    rows = [
        "subject session time_years t1 flair mask",
        "sub-01 ses-1 0 t1.nii.gz flair.nii.gz small.nii.gz",
        "sub-01 ses-2 1 t1.nii.gz flair.nii.gz small.nii.gz",
        f"sub-01 {last} 2 t1.nii.gz flair.nii.gz large.nii.gz",
    ]
    Path("manifest.tsv").write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    command = ["venv/bin/lesiontrack", "run", "manifest.tsv", "--out", last, "--threads", "1"]
    subprocess.run(command, check=True, capture_output=True)
    table = pd.read_csv(f"{last}/sub-01/lesion_tracking.tsv", sep="\t").sort_values("dt_years")
    columns = ["dt_years", "volume_followup_mm3", "class"]
    found[last] = table[columns].to_numpy().tolist()
    told = (
        f"{years:g} year{'s' if years > 1 else ''} {volume:g} mm3 {kind}"
        for years, volume, kind in found[last]
    )
    print(f"ses-2 and {last}: {', '.join(told)}")
print("exit status of both: 0")
assert [kind for _, _, kind in found["ses-3"]] == ["stable", "enlarging"]
assert found["ses-3"][1][1] > found["ses-3"][0][1]
assert [kind for _, _, kind in found["ses-2"]] == ["stable", "stable"]
assert found["ses-2"][1][1] == found["ses-2"][0][1]
PYTHON
