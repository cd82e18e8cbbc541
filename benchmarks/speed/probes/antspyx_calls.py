"""Call antspyx with its defaults on the images of a session, as a simple pipeline would."""

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import ants
from nilearn.datasets import load_mni152_template

from benchmarks.speed.probes import timed

files = {path.name.rsplit("_", 1)[1][:-7]: path for path in Path(sys.argv[1]).glob("*.nii.gz")}
with tempfile.TemporaryDirectory() as folder:
    load_mni152_template(resolution=1).to_filename(f"{folder}/template.nii.gz")
    template = ants.image_read(f"{folder}/template.nii.gz")
with timed() as found:
    images = {
        contrast: ants.n4_bias_field_correction(ants.image_read(str(files[contrast])))
        for contrast in ("FLAIR", "T1w", "T2w")
    }
    for moving in ("T1w", "T2w"):
        ants.registration(images["FLAIR"], images[moving], type_of_transform="Rigid")
    ants.registration(template, images["FLAIR"], type_of_transform="Affine")
    found["antspyx"] = version("antspyx")
