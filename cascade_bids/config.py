"""Settings of a run, as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONTRASTS = ("FLAIR", "T1w", "T2w", "PDw")
"""BIDS suffixes of the images that a scan may have; FLAIR is the reference image."""

TEMPLATE_SPACE = "MNI152NLin2009aSym"
"""The template, from nilearn; the network grid is aligned to it."""

VERSION = version("cascade_bids")
"""Version of the installed package."""


@dataclass(frozen=True)
class InputConfig:
    """Dataset and images to read."""

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
    """Folder of a pybids database to create or reuse."""
    validate: bool = True
    """Whether files with names that are not valid in BIDS are ignored."""


@dataclass(frozen=True)
class PreprocessConfig:
    """Preprocessing of a scan."""

    skull_strip: str = "auto"
    """``auto`` extracts the brain, ``skip`` uses images that are already brain-extracted."""
    random_seed: int = 0
    """Seed of the voxels that registration samples; not negative."""
    output_spaces: tuple[str, ...] = ()
    """Further spaces of the lesion mask: ``T1w``, ``MNI152NLin2009aSym``."""


@dataclass(frozen=True)
class MethodConfig:
    """Networks that find the lesions."""

    method: str = "ensemble"
    """Name of a method in the weights folder, or the path of a card."""
    separate_lesions: bool = False
    """Whether confluent lesions are split at the peaks of the method's sphere map."""
    tta: bool = False
    """Whether the networks also predict the mirrored head (test-time augmentation)."""
    threshold: float | None = None
    """Lowest probability of a lesion voxel; None as the method's card says."""
    min_lesion_mm3: float | None = None
    """Smallest lesion, mm³; None as the method's card says."""


@dataclass(frozen=True)
class ResourceConfig:
    """Resources of the machine that the run may use."""

    work_dir: Path | None = None
    """Folder for intermediate files, from which a run can resume; None for a temporary folder."""
    clean_work_dir: bool = False
    """Whether the intermediate files are removed after the run."""
    device: str = "auto"
    """``cpu``, ``cuda`` or ``auto`` (a GPU if there is one)."""
    precision: str = "auto"
    """``float32``, or ``auto`` (bfloat16 where the processor is fast at it) for convolutions."""
    nprocs: int = 1
    """Number of cores that all steps use together."""
    omp_nthreads: int = 1
    """Number of threads of one step; 0 shares the cores among the scans."""
    mem_gb: float | None = None
    """Memory of the run; None for most of what the run may use, or what `plugin` says."""
    stop_on_first_crash: bool = False
    """Whether the first failing scan ends the run."""
    plugin: Mapping[str, Any] | None = None
    """Nipype's ``plugin`` and ``plugin_args`` for the steps; None runs them on this machine."""


@dataclass(frozen=True)
class ParticipantConfig:
    """All settings of the participant level."""

    output_dir: Path
    """Root of the derivatives."""
    inputs: InputConfig
    """Images to read."""
    preprocess: PreprocessConfig
    """Their preprocessing."""
    method: MethodConfig
    """Method that finds the lesions."""
    resources: ResourceConfig
    """Resources of the run."""
    longitudinal: bool = True
    """Whether the sessions of a participant are compared."""
    min_change_mm3: float = 3.0
    """Smallest change of a lesion between sessions, mm³."""
