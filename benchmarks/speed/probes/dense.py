"""Evaluate a patch-based network on each voxel of a cube: ``dense``, or by ``patches``."""

import sys

import numpy as np
import torch

from benchmarks.speed.probes import timed
from cascade_bids.models.architectures.patch_classifier import evaluate_dense, evaluate_patches
from cascade_bids.models.card import load_card
from cascade_bids.models.predict import load_stages

SIDE = 48

evaluate = {"dense": evaluate_dense, "patches": evaluate_patches}[sys.argv[1]]
network = load_stages(load_card("valverde2017"), device=torch.device("cpu"))[0].network
volume = torch.randn(2, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
everywhere = np.ones((SIDE, SIDE, SIDE), dtype=bool)
evaluate(network, volume[:, :16, :16, :16], everywhere[:16, :16, :16])
with timed():
    evaluate(network, volume, everywhere)
