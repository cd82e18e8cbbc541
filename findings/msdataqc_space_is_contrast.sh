#!/usr/bin/env bash
# msdataqc 0.1.0: the tool magnims takes each T1w image with a "space-" in its name for one with
# contrast agent.
#
# It looks for "ce-" anywhere in the name, which "space-" ends with. So in a dataset whose images
# were moved to a template, the T1w without contrast agent counts as one with it. For a diagnosis,
# that there is none is no longer reported. For monitoring, the same images fail: the delay after an
# injection that never was is unknown. Seen with nibabel 5.4.2, numpy 2.3.5 and pandas 3.1.1.
#
# Output seen, of the same images:
#     diagnosis, without space-: exit status 1, kinds flair3d,t1pre,t2, no T1w with contrast agent
#     diagnosis, with space-: exit status 1, kinds flair3d,t1post,t2
#     monitoring, without space-: exit status 0, kinds flair3d,t1pre,t2
#     monitoring, with space-: exit status 1, kinds flair3d,t1post,t2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    nibabel==5.4.2 numpy==2.3.5 pandas==3.1.1
# The tool needs neither scipy nor matplotlib.
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps msdataqc==0.1.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import json
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np

found = {}
for purpose in ("diagnosis", "monitoring"):
    for name, entity in {"without space-": "", "with space-": "_space-MNI152NLin2009cAsym"}.items():
        dataset = Path(name)
        anat = dataset / "sub-01" / "ses-1" / "anat"
        anat.mkdir(parents=True, exist_ok=True)
        description = {"Name": "heads", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
        description["GeneratedBy"] = [{"Name": "example"}]
        (dataset / "dataset_description.json").write_text(json.dumps(description))
        sidecar = {"MagneticFieldStrength": 3, "MRAcquisitionType": "3D", "SkullStripped": False}
        for suffix in ("T1w", "T2w", "FLAIR"):
            base = anat / f"sub-01_ses-1{entity}_{suffix}"
            image = nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4))
            image.to_filename(f"{base}.nii.gz")
            Path(f"{base}.json").write_text(json.dumps(sidecar))
        command = ["venv/bin/msdataqc", "magnims", name, "--purpose", purpose]
        status = subprocess.run([*command, "--json", "report.json"], capture_output=True).returncode
        (session,) = json.loads(Path("report.json").read_text())["sessions"]
        lacks = any(row["rule"].startswith("core: post-contrast") for row in session["failed"])
        kinds = ",".join(session["kinds"])
        found[purpose, name] = status, kinds, lacks
        told = ", no T1w with contrast agent" if lacks else ""
        print(f"{purpose}, {name}: exit status {status}, kinds {kinds}{told}")
without, with_space = "flair3d,t1pre,t2", "flair3d,t1post,t2"
assert found == {
    ("diagnosis", "without space-"): (1, without, True),
    ("diagnosis", "with space-"): (1, with_space, False),
    ("monitoring", "without space-"): (0, without, False),
    ("monitoring", "with space-"): (1, with_space, False),
}
PYTHON
