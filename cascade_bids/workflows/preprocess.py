"""Workflow of the preprocessing, from raw images to the network grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nipype import Node, Workflow
from nipype.interfaces.utility import Merge

from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.config import TEMPLATE_SPACE, PreprocessConfig, ResourceConfig
from cascade_bids.interfaces.masks import NonzeroMask, ResampleMask, TrimBrain
from cascade_bids.interfaces.models import ExtractBrain
from cascade_bids.interfaces.preprocess import (
    AlignToTemplate,
    BringNormalised,
    Conform,
    CorrectBias,
    MeasureAnatomy,
    Orient,
    Prepare,
    ReadAlignment,
    RegisterRigid,
)
from cascade_bids.models.card import ModelCard
from cascade_bids.workflows.resources import count_mvoxels, has_thick_slices, step

Source = tuple[Node, str]
"""A node and the name of one of its outputs."""


@dataclass(frozen=True)
class Prepared:
    """Outputs of the preparation of a scan, for later steps."""

    corrected: Mapping[str, Source]
    """Contrast to its bias-corrected image, on its own grid; the FLAIR first."""
    conformed: Mapping[str, Source]
    """Contrast to its conformed image."""
    brain: Source
    """Brain mask of the scan, on the grid of the FLAIR."""
    warnings: Source
    """What readers of the results must know of the images."""
    orientation_known: Source
    """Whether the header of the FLAIR tells the orientation."""
    registrations: Mapping[str, Source]
    """Other contrast to the transform from the FLAIR to it."""
    images: Source
    """All of `corrected`, in its order."""
    transforms: Source | None
    """All of `registrations`, in their order; None if there are none."""
    align: Node
    """`AlignToTemplate`, which places the network grid."""


@dataclass(frozen=True)
class Gridded:
    """A scan on the network grid."""

    prepare: Node
    """`Prepare` or `BringNormalised`: ``out_files`` by contrast, and ``brain``."""
    align: Node
    """`AlignToTemplate` or `ReadAlignment`, which placed the grid."""
    contrasts: tuple[str, ...]
    """Contrasts of the images; the FLAIR first."""


def connect_preparation(
    wf: Workflow,
    scan: Scan,
    preprocess: PreprocessConfig,
    resources: ResourceConfig,
    contrasts: Sequence[str],
    brain_card: ModelCard,
) -> Prepared:
    """Conform, bias-correct and brain-extract every image, and register all to the FLAIR.

    Parameters
    ----------
    wf
        Workflow of the scan, to which the nodes are added.
    scan
        A scan without a problem.
    preprocess, resources
        Settings of the run.
    contrasts
        Contrasts to prepare; the FLAIR first.
    brain_card
        Card of the brain extraction.

    Returns
    -------
    Prepared
        Outputs for further nodes.
    """
    conformed = {contrast: _conform(scan, contrast) for contrast in contrasts}
    corrected = _connect_bias(wf, scan, conformed)
    brains = {
        contrast: _connect_brain(
            wf, scan, contrast, corrected[contrast], preprocess, resources, brain_card
        )
        for contrast in contrasts
    }
    warnings = [(node, "warnings") for node in conformed.values()]
    extracted = [node for node, _ in brains.values() if isinstance(node.interface, ExtractBrain)]
    warnings += [(node, "warnings") for node in extracted]
    registrations = _connect_registrations(wf, scan, preprocess, corrected, brains)
    brain = _connect_scan_brain(wf, scan, brains, registrations)
    align = step(
        AlignToTemplate(seed=preprocess.random_seed), "align_to_template", mvoxels=_size(scan)
    )
    wf.connect(*corrected["FLAIR"], align, "in_file")
    wf.connect(*brain, align, "brain")
    return Prepared(
        corrected,
        {contrast: (node, "out_file") for contrast, node in conformed.items()},
        brain,
        merge(wf, "warnings", warnings),
        (conformed["FLAIR"], "orientation_known"),
        registrations,
        merge(wf, "images", list(corrected.values())),
        merge_sources(wf, "transforms", list(registrations.values())),
        align,
    )


def normalised_files(derivatives: Path, scan: Scan) -> dict[str, Path]:
    """Return the paths of a scan's brain mask and alignment to the template of an earlier run.

    Parameters
    ----------
    derivatives
        Root of the derivatives of the earlier run.
    scan
        The scan.

    Returns
    -------
    dict
        Paths of ``brain`` and ``template_to_flair``.
    """
    # A transform is named by the images that it resamples, so it maps points the other way.
    xfm = {"from_": "FLAIR", "to": TEMPLATE_SPACE}
    return {
        "brain": output_path(derivatives, scan, "brain_mask"),
        "template_to_flair": output_path(derivatives, scan, "xfm", **xfm),
    }


def connect_normalised(
    wf: Workflow, scan: Scan, contrasts: Sequence[str], derivatives: Path
) -> Gridded:
    """Resample the images and the brain mask of an earlier run onto the network grid.

    Parameters
    ----------
    wf
        Workflow of the scan, to which the nodes are added.
    scan
        A scan of derivatives of cascade_bids, with ``desc-preproc`` images.
    contrasts
        Contrasts to resample; the FLAIR first.
    derivatives
        Root of the derivatives.

    Returns
    -------
    Gridded
        Outputs for further nodes.
    """
    files = {name: str(path) for name, path in normalised_files(derivatives, scan).items()}
    images: list[Source] = []
    for contrast in contrasts:
        # They are z-scores, which conforming would take for a negative image.
        orient = step(Orient(in_file=str(scan.images[contrast])), f"conform_{contrast}")
        images.append((orient, "out_file"))
    # The mask is not conformed, so it may be stored in another orientation.
    brain = step(ResampleMask(in_file=files["brain"]), "conform_brain")
    wf.connect(*images[0], brain, "grid")
    align = step(ReadAlignment(in_file=files["template_to_flair"]), "read_alignment")
    prepare = step(
        BringNormalised(contrasts=list(contrasts)), "prepare_network_grid", mvoxels=_size(scan)
    )
    wf.connect(*merge(wf, "images", images), prepare, "in_files")
    wf.connect(brain, "out_file", prepare, "brain")
    wf.connect(align, "rigid", prepare, "rigid")
    return Gridded(prepare, align, tuple(contrasts))


def connect_grid(
    wf: Workflow, scan: Scan, name: str, prepared: Prepared, *, grid: Path | None = None
) -> Node:
    """Resample all images of a scan onto one grid and normalise them.

    Parameters
    ----------
    wf, scan
        Workflow of the scan, and the scan.
    name
        Name of the grid, for the node.
    prepared
        From `connect_preparation`.
    grid
        Image on the grid, in FLAIR space; None for the network grid.

    Returns
    -------
    nipype.Node
        A `Prepare` node: ``out_files`` by contrast, and ``brain``.
    """
    node = step(
        Prepare(contrasts=list(prepared.corrected)), f"prepare_{name}_grid", mvoxels=_size(scan)
    )
    wf.connect(*prepared.images, node, "in_files")
    wf.connect(*prepared.brain, node, "brain")
    if prepared.transforms is not None:
        wf.connect(*prepared.transforms, node, "transforms")
    if grid is None:
        wf.connect(prepared.align, "rigid", node, "rigid")
    else:
        node.inputs.grid = str(grid)
    return node


def connect_anatomy(wf: Workflow, gridded: Gridded) -> Source:
    """Compute the anatomical coordinates of a scan with a T1w, on the network grid.

    Parameters
    ----------
    wf
        Workflow of the scan.
    gridded
        The scan on the network grid.

    Returns
    -------
    Source
        One image with `preprocess.anatomical_coordinates.ANATOMY` along its fourth axis.
    """
    interface = MeasureAnatomy(contrasts=list(gridded.contrasts))
    node = step(interface, "measure_anatomy")
    wf.connect(gridded.prepare, "out_files", node, "in_files")
    wf.connect(gridded.prepare, "brain", node, "brain")
    wf.connect(gridded.align, "rigid", node, "rigid")
    wf.connect(gridded.align, "affine", node, "affine")
    return node, "out_file"


def merge_sources(wf: Workflow, name: str, sources: Sequence[Source]) -> Source | None:
    """Merge outputs as `merge` does; None if there are no outputs."""
    return merge(wf, name, sources) if sources else None


def merge(wf: Workflow, name: str, sources: Sequence[Source]) -> Source:
    """Merge outputs of several nodes into one list."""
    node = step(Merge(len(sources)), f"merge_{name}")
    for number, source in enumerate(sources, start=1):
        wf.connect(*source, node, f"in{number}")
    return node, "out"


def _size(scan: Scan) -> float:
    return count_mvoxels(scan.images.values())


def _conform(scan: Scan, contrast: str) -> Node:
    path = scan.images[contrast]
    return step(Conform(in_file=str(path)), f"conform_{contrast}", mvoxels=count_mvoxels([path]))


def _connect_bias(wf: Workflow, scan: Scan, conformed: Mapping[str, Node]) -> dict[str, Source]:
    """Correct the bias of each image; return the images by contrast."""
    corrected: dict[str, Source] = {}
    for contrast, conform in conformed.items():
        mvoxels = count_mvoxels([scan.images[contrast]])
        n4 = step(CorrectBias(), f"correct_bias_{contrast}", mvoxels=mvoxels)
        wf.connect(conform, "out_file", n4, "in_file")
        corrected[contrast] = (n4, "out_file")
    return corrected


def _connect_brain(
    wf: Workflow,
    scan: Scan,
    contrast: str,
    corrected: Source,
    preprocess: PreprocessConfig,
    resources: ResourceConfig,
    brain_card: ModelCard,
) -> Source:
    """Return the brain mask of an image: what is not 0, a given one, or that of the network."""
    name, mvoxels = f"extract_brain_{contrast}", count_mvoxels([scan.images[contrast]])
    if preprocess.skull_strip == "skip":
        brain = step(NonzeroMask(), name, mvoxels=mvoxels)
        wf.connect(*corrected, brain, "in_file")
    elif scan.brain_mask is not None and scan.brain_mask_space == contrast:
        brain = step(ResampleMask(in_file=str(scan.brain_mask)), name, mvoxels=mvoxels)
        wf.connect(*corrected, brain, "grid")
    else:
        extract = ExtractBrain(
            device=resources.device,
            threads=resources.omp_nthreads,
            card=brain_card,
            name=scan.images[contrast].name,
        )
        brain = step(extract, name, threads=resources.omp_nthreads, mvoxels=mvoxels)
        wf.connect(*corrected, brain, "in_file")
    return brain, "out_file"


def _connect_registrations(
    wf: Workflow,
    scan: Scan,
    preprocess: PreprocessConfig,
    corrected: Mapping[str, Source],
    brains: Mapping[str, Source],
) -> dict[str, Source]:
    """Return the transform from FLAIR to every other image, by contrast."""
    transforms: dict[str, Source] = {}
    for contrast in list(corrected)[1:]:
        register = step(
            RegisterRigid(seed=preprocess.random_seed), f"register_{contrast}", mvoxels=_size(scan)
        )
        wf.connect(*corrected["FLAIR"], register, "fixed")
        wf.connect(*brains["FLAIR"], register, "fixed_brain")
        wf.connect(*corrected[contrast], register, "moving")
        wf.connect(*brains[contrast], register, "moving_brain")
        transforms[contrast] = (register, "transform")
    return transforms


def _connect_scan_brain(
    wf: Workflow, scan: Scan, brains: Mapping[str, Source], registrations: Mapping[str, Source]
) -> Source:
    """Return the brain mask of the scan: one given for another image, else that of the FLAIR."""
    space = scan.brain_mask_space
    if space is not None and space in registrations:
        given = step(ResampleMask(), "resample_brain")
        wf.connect(*brains[space], given, "in_file")
        wf.connect(*brains["FLAIR"], given, "grid")
        wf.connect(*registrations[space], given, "transform")
        return given, "out_file"
    found = isinstance(brains["FLAIR"][0].interface, ExtractBrain)
    if not (found and has_thick_slices(scan.images["FLAIR"])):
        return brains["FLAIR"]
    trim = step(TrimBrain(), "trim_brain", mvoxels=_size(scan))
    wf.connect(*brains["FLAIR"], trim, "in_file")
    if "T1w" in registrations:
        wf.connect(*brains["T1w"], trim, "other")
        wf.connect(*registrations["T1w"], trim, "transform")
    return trim, "out_file"
