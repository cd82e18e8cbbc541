"""What a head is made of, and what each contrast shows of it."""

from collections.abc import Mapping

import torch
from torch import Tensor

TISSUES = (
    "air",
    "white",
    "cortex",
    "deep grey",
    "thalamus",
    "pallidum",
    "ventricle",
    "lower ventricle",
    "fluid",
    "cerebellar white",
    "cerebellar cortex",
    "brainstem",
    "vessel",
    "bone",
    "soft tissue",
    "choroid plexus",
    "limbic",
)
"""What a head is made of; a voxel of an `Anatomy` holds an index in this list."""

FREESURFER = {
    "white": (2, 41, 25, 57, 77, 85, 251, 252, 253, 254, 255),
    "cortex": (3, 42),
    "deep grey": (11, 50, 12, 51, 26, 58),
    "thalamus": (10, 49),
    "pallidum": (13, 52),
    "ventricle": (4, 43, 5, 44, 72),
    "lower ventricle": (14, 15),
    "fluid": (24,),
    "cerebellar white": (7, 46),
    "cerebellar cortex": (8, 47),
    "brainstem": (16, 28, 60),
    "vessel": (30, 62, 136, 137, 163, 164),
    "bone": (515, 516, 512, 514),
    "choroid plexus": (31, 63),
    "limbic": (17, 53, 18, 54),
}
"""Tissue to labels of the head maps: FreeSurfer inside the skull, 500 and above outside of it.

What these maps call lesions (25, 57, 77) is white matter here: lesions are painted.
"""

MUSE = {
    "white": (*range(81, 96), 69),
    "cortex": tuple(range(100, 208)),
    "deep grey": (23, 30, 36, 37, 57, 58, 75, 76),
    "thalamus": (59, 60),
    "pallidum": (55, 56),
    "ventricle": (49, 50, 51, 52),
    "lower ventricle": (4, 11),
    "fluid": (1, 46),
    "cerebellar white": (40, 41),
    "cerebellar cortex": (38, 39, 71, 72, 73),
    "brainstem": (35, 61, 62),
    "limbic": (31, 32, 47, 48),
}
"""Tissue to the labels of MUSE (Doshi et al. 2016, doi 10.1016/j.neuroimage.2015.11.073), and those
that DLMUSE adds: fluid around the brain (1) and in it (46), and the optic chiasm (69)."""

OUTSIDE = 500
"""First label outside the skull's inner side."""

LEVELS: Mapping[str, Mapping[str, float]] = {
    "FLAIR": {
        "white": 0.58,
        "cortex": 0.70,
        "deep grey": 0.66,
        "thalamus": 0.63,
        "pallidum": 0.55,
        "ventricle": 0.10,
        "lower ventricle": 0.15,
        "fluid": 0.13,
        "cerebellar white": 0.58,
        "cerebellar cortex": 0.68,
        "brainstem": 0.61,
        "vessel": 0.30,
        "bone": 0.15,
        "soft tissue": 0.65,
        "choroid plexus": 0.75,
        "limbic": 0.75,
    },
    "T1w": {
        "white": 1.00,
        "cortex": 0.66,
        "deep grey": 0.74,
        "thalamus": 0.83,
        "pallidum": 0.92,
        "ventricle": 0.20,
        "lower ventricle": 0.22,
        "fluid": 0.25,
        "cerebellar white": 0.97,
        "cerebellar cortex": 0.66,
        "brainstem": 0.91,
        "vessel": 0.45,
        "bone": 0.20,
        "soft tissue": 0.85,
        "choroid plexus": 0.60,
        "limbic": 0.69,
    },
    "T2w": {
        "white": 0.40,
        "cortex": 0.55,
        "deep grey": 0.49,
        "thalamus": 0.46,
        "pallidum": 0.35,
        "ventricle": 1.00,
        "lower ventricle": 0.95,
        "fluid": 0.95,
        "cerebellar white": 0.41,
        "cerebellar cortex": 0.54,
        "brainstem": 0.44,
        "vessel": 0.25,
        "bone": 0.12,
        "soft tissue": 0.45,
        "choroid plexus": 0.70,
        "limbic": 0.58,
    },
    "PDw": {
        "white": 0.60,
        "cortex": 0.75,
        "deep grey": 0.70,
        "thalamus": 0.66,
        "pallidum": 0.58,
        "ventricle": 0.80,
        "lower ventricle": 0.80,
        "fluid": 0.78,
        "cerebellar white": 0.60,
        "cerebellar cortex": 0.73,
        "brainstem": 0.62,
        "vessel": 0.40,
        "bone": 0.15,
        "soft tissue": 0.60,
        "choroid plexus": 0.78,
        "limbic": 0.76,
    },
}
"""Mean of each tissue, air at 0: the order and the distances that the contrasts are read by."""


def share_of(tissues: Tensor, *names: str) -> Tensor:
    """Return which voxels (X, Y, Z) are one of the named tissues: float32, 1 or 0."""
    table = torch.zeros(len(TISSUES))
    table[[TISSUES.index(name) for name in names]] = 1
    return table[tissues.long()]
