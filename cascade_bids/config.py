"""What a run was asked to do, as frozen dataclasses: one for each room."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONTRASTS = ("FLAIR", "T1w", "T2w", "PDw")
"""BIDS suffixes of the images that a scan may have; FLAIR is the reference image."""

TEMPLATE_SPACE = "MNI152NLin2009aSym"
"""The template that nilearn carries; the network grid is aligned to it."""

VERSION = version("cascade_bids")
"""The version of the product, read from the installed package."""


@dataclass(frozen=True)
class InputConfig:
    """Which images of which dataset are read."""

    bids_dir: Path
    """Root of the raw BIDS dataset; never written to."""
    participant_labels: tuple[str, ...] = ()
    """Participants to process, without ``sub-``; all of them when empty."""
    session_labels: tuple[str, ...] = ()
    """Sessions to process, without ``ses-``; all of them when empty."""
    filters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Contrast (lower case) to BIDS entities that its image must have."""
    derivatives: Mapping[str, Path] = field(default_factory=dict)
    """Name to path of other pipelines' derivatives that may hold a brain mask."""
    database_dir: Path | None = None
    """Folder of a pybids database to make or use again."""
    validate: bool = True
    """Whether files with names that BIDS does not know are passed over."""


@dataclass(frozen=True)
class PreprocessConfig:
    """How a scan is brought to the network grid."""

    skull_strip: str = "auto"
    """``auto`` extracts the brain, ``skip`` takes the images as already extracted."""
    random_seed: int = 0
    """Seed of the voxels that registration samples; not negative."""
    output_spaces: tuple[str, ...] = ()
    """Further spaces of the lesion mask: ``T1w``, ``MNI152NLin2009aSym``."""


@dataclass(frozen=True)
class MethodConfig:
    """Which networks find the lesions."""

    method: str = "cascade"
    """Name of a method in the weights folder, or the path of a card."""
    separate_lesions: bool = False
    """Whether confluent lesions are split at the peaks of the method's sphere map."""
    tta: bool = False
    """Whether the networks are asked about the mirrored head too (test-time augmentation)."""


@dataclass(frozen=True)
class ResourceConfig:
    """What the run may use of the machine."""

    work_dir: Path | None = None
    """Folder for intermediate files; the same folder continues a broken run; None is temporary."""
    clean_work_dir: bool = False
    """Whether the intermediate files go when the run is over."""
    device: str = "auto"
    """``cpu``, ``cuda`` or ``auto`` (a GPU where there is one)."""
    nprocs: int = 1
    """Steps that run at the same time."""
    omp_nthreads: int = 1
    """Threads inside one step."""
    stop_on_first_crash: bool = False
    """Whether the first failing scan ends the run."""
    plugin: Mapping[str, Any] | None = None
    """Nipype's ``plugin`` and ``plugin_args`` for the steps; None runs them here."""


@dataclass(frozen=True)
class ParticipantConfig:
    """All that the participant level needs to know."""

    output_dir: Path
    """Root of the derivatives."""
    inputs: InputConfig
    """Which images are read."""
    preprocess: PreprocessConfig
    """How they are prepared."""
    method: MethodConfig
    """What finds the lesions."""
    resources: ResourceConfig
    """What the run may use."""
