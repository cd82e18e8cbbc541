"""Run the network of MindGlide, with random weights, as its infer.py does: on the FLAIR alone."""

import sys
from importlib.metadata import version
from pathlib import Path

import torch
from mindglide.consts import PATCH_SIZE
from mindglide.network import get_network
from mindglide.transforms import get_transforms
from monai.inferers import SlidingWindowInferer

from benchmarks.speed.probes import timed

OVERLAP = 0.5

file = next(Path(sys.argv[1]).glob("sub-??_space-*_FLAIR.nii.gz"))
# Cropped to what is not 0, and normalised.
volume = get_transforms()({"image": str(file)})["image"][None]
torch.manual_seed(0)
with timed() as found, torch.inference_mode():
    network = get_network(torch.device("cpu")).eval()
    window = {"roi_size": PATCH_SIZE, "sw_batch_size": 4, "overlap": OVERLAP, "mode": "gaussian"}
    SlidingWindowInferer(**window)(volume, network)
    found |= {
        "patch": " x ".join(map(str, PATCH_SIZE)),
        "overlap": OVERLAP,
        "threads": torch.get_num_threads(),
        "voxels": " x ".join(map(str, volume.shape[2:])),
        "monai": version("monai"),
    }
