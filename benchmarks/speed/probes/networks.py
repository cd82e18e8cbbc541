"""Predict lesions by the default method in images without skull, on their own grid."""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from benchmarks.speed.probes import timed
from cascade_bids.config import MethodConfig
from cascade_bids.lesions.label import label_lesions
from cascade_bids.models.card import load_card
from cascade_bids.models.device import prepare_device
from cascade_bids.models.predict import load_stages, predict_lesions
from cascade_bids.preprocess.normalise import normalise_intensity, tissue_mask

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("--device", default="cpu")
parser.add_argument("--mask", type=Path, help="also make lesions of the probabilities, timed too")
options = parser.parse_args()

device = prepare_device(options.device, torch.get_num_threads())
card = load_card(MethodConfig.method)
# Not the image with a contrast agent.
files = {c: next(options.folder.glob(f"sub-??_space-*_{c}.nii.gz")) for c in card.contrasts}
loaded = {c: nib.Nifti1Image.from_filename(path) for c, path in files.items()}
values = {c: image.get_fdata(dtype=np.float32) for c, image in loaded.items()}
affine = loaded["FLAIR"].affine
brain = values["FLAIR"] > 0
tissue = tissue_mask(values["FLAIR"], brain)
images = {c: normalise_intensity(image, tissue, brain) for c, image in values.items()}
torch.zeros(1, device=device)  # starts CUDA
with timed() as found:
    stages = load_stages(card, device=device)
    maps = predict_lesions(stages, card, images, brain, affine=affine)
    if options.mask:
        labels = label_lesions(maps.probability, card.operating_point, voxel_mm3=1.0)
    found |= {"patch": "none (whole brain)", "overlap": 0, "threads": torch.get_num_threads()}
if options.mask:
    nib.Nifti1Image((labels > 0).astype(np.uint8), affine).to_filename(options.mask)
