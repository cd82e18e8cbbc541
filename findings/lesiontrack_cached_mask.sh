#!/usr/bin/env bash
# lesiontrack 0.2.0: a second run into the same folder takes the lesion masks of the first.
#
# A registration is kept, with the masks that it moved, and used again if its settings are the same;
# whether the files are the same is not looked at. So after a mask was corrected, the tables still
# tell of the old one, without a word. Here a lesion is taken out of the mask of the second visit:
# it stays "new" in the old folder, and only a new folder gives the right result. Seen with
# picsl_greedy 1.4.0.3, numpy 2.3.5 and pandas 3.1.1.
#
# Output seen:
#     first mask, folder a: new, stable
#     corrected mask, folder a: new, stable
#     corrected mask, folder b: stable
#     printed by the second run: 1 line, which names no reuse
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


def track(mask, out):
    rows = [
        "subject session time_years t1 flair mask",
        "sub-01 ses-1 0 t1.nii.gz flair.nii.gz one.nii.gz",
        f"sub-01 ses-2 1 t1.nii.gz flair.nii.gz {mask}",
    ]
    Path("manifest.tsv").write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    command = ["venv/bin/lesiontrack", "run", "manifest.tsv", "--out", out, "--threads", "1"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    table = pd.read_csv(f"{out}/sub-01/lesion_tracking.tsv", sep="\t")
    return ", ".join(sorted(table["class"])), run.stdout + run.stderr


texture = gaussian_filter(np.random.default_rng(0).normal(size=(40, 40, 40)), 2)
head = np.where(ball((20, 20, 20), 17), 100 + 200 * texture, 0).astype(np.float32)
save("t1.nii.gz", head)
save("flair.nii.gz", head)
old, new = ball((13, 20, 20), 4), ball((27, 20, 20), 4)
save("one.nii.gz", old.astype(np.uint8))
save("two.nii.gz", (old | new).astype(np.uint8))
first, _ = track("two.nii.gz", "a")
again, printed = track("one.nii.gz", "a")
fresh, _ = track("one.nii.gz", "b")
lines = printed.splitlines()
told = any(word in printed.lower() for word in ("reus", "cache", "kept"))
print(f"first mask, folder a: {first}")
print(f"corrected mask, folder a: {again}")
print(f"corrected mask, folder b: {fresh}")
print(f"printed by the second run: {len(lines)} line, which names {'a' if told else 'no'} reuse")
assert first == again == "new, stable"
assert fresh == "stable"
assert len(lines) == 1
assert not told
PYTHON
