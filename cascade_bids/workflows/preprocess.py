"""Workflow of the preprocessing, from raw images to the network grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nipype import Node, Workflow
from nipype.interfaces.utility import Merge

from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.config import TEMPLATE_SPACE, PreprocessConfig, ResourceConfig
from cascade_bids.interfaces.models import ExtractBrain
from cascade_bids.interfaces.preprocess import (
    AlignToTemplate,
    BringNormalised,
    Conform,
    CorrectBias,
    MeasureAnatomy,
    NonzeroMask,
    Prepare,
    ReadAlignment,
    RegisterRigid,
    ResampleMask,
)
from cascade_bids.models.card import ModelCard

Source = tuple[Node, str]
"""A node and the name of one of its outputs."""


@dataclass(frozen=True)
class Prepared:
    """Outputs of the preparation of a scan, for later steps."""

    corrected: Mapping[str, Source]
    """Contrast to its bias-corrected image, on its own grid; the FLAIR first."""
    brain: Source
    """Brain mask of the scan, on the grid of the FLAIR."""
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
    corrected, brains = _connect_images(wf, scan, preprocess, resources, contrasts, brain_card)
    registrations = _connect_registrations(wf, preprocess, corrected, brains)
    brain = _connect_given_brain(wf, scan, brains, registrations)
    align = Node(AlignToTemplate(seed=preprocess.random_seed), "align_to_template")
    wf.connect(*corrected["FLAIR"], align, "in_file")
    wf.connect(*brain, align, "brain")
    return Prepared(
        corrected,
        brain,
        registrations,
        _merge(wf, "images", list(corrected.values())),
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
        conform = Node(Conform(in_file=str(scan.images[contrast])), f"conform_{contrast}")
        images.append((conform, "out_file"))
    # The mask is not conformed, so it may be stored in another orientation.
    brain = Node(ResampleMask(in_file=files["brain"]), "conform_brain")
    wf.connect(*images[0], brain, "grid")
    align = Node(ReadAlignment(in_file=files["template_to_flair"]), "read_alignment")
    prepare = Node(BringNormalised(contrasts=list(contrasts)), "prepare_network_grid", mem_gb=1)
    wf.connect(*_merge(wf, "images", images), prepare, "in_files")
    wf.connect(brain, "out_file", prepare, "brain")
    wf.connect(align, "rigid", prepare, "rigid")
    return Gridded(prepare, align, tuple(contrasts))


def connect_grid(wf: Workflow, name: str, prepared: Prepared, *, grid: Path | None = None) -> Node:
    """Resample all images of a scan onto one grid and normalise them.

    Parameters
    ----------
    wf
        Workflow of the scan.
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
    node = Node(Prepare(contrasts=list(prepared.corrected)), f"prepare_{name}_grid", mem_gb=1)
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
    node = Node(interface, "measure_anatomy", mem_gb=1)
    wf.connect(gridded.prepare, "out_files", node, "in_files")
    wf.connect(gridded.prepare, "brain", node, "brain")
    wf.connect(gridded.align, "rigid", node, "rigid")
    wf.connect(gridded.align, "affine", node, "affine")
    return node, "out_file"


def merge_sources(wf: Workflow, name: str, sources: Sequence[Source]) -> Source | None:
    """Merge outputs of several nodes into one list; None if there are no outputs."""
    return _merge(wf, name, sources) if sources else None


def _merge(wf: Workflow, name: str, sources: Sequence[Source]) -> Source:
    merge = Node(Merge(len(sources)), f"merge_{name}")
    for number, source in enumerate(sources, start=1):
        wf.connect(*source, merge, f"in{number}")
    return merge, "out"


def _connect_images(
    wf: Workflow,
    scan: Scan,
    preprocess: PreprocessConfig,
    resources: ResourceConfig,
    contrasts: Sequence[str],
    brain_card: ModelCard,
) -> tuple[dict[str, Source], dict[str, Source]]:
    """Return images and brain masks by contrast."""
    corrected: dict[str, Source] = {}
    brains: dict[str, Source] = {}
    for contrast in contrasts:
        conform = Node(Conform(in_file=str(scan.images[contrast])), f"conform_{contrast}")
        n4 = Node(CorrectBias(), f"correct_bias_{contrast}", mem_gb=1)
        wf.connect(conform, "out_file", n4, "in_file")
        corrected[contrast] = (n4, "out_file")
        name = f"extract_brain_{contrast}"
        if preprocess.skull_strip == "skip":
            brain = Node(NonzeroMask(), name)
            wf.connect(conform, "out_file", brain, "in_file")
        elif scan.brain_mask is not None and scan.brain_mask_space == contrast:
            brain = Node(ResampleMask(in_file=str(scan.brain_mask)), name)
            wf.connect(conform, "out_file", brain, "grid")
        else:
            threads = resources.omp_nthreads
            extract = ExtractBrain(device=resources.device, threads=threads, card=brain_card)
            brain = Node(extract, name, mem_gb=1, n_procs=threads)
            wf.connect(n4, "out_file", brain, "in_file")
        brains[contrast] = (brain, "out_file")
    return corrected, brains


def _connect_registrations(
    wf: Workflow,
    preprocess: PreprocessConfig,
    corrected: Mapping[str, Source],
    brains: Mapping[str, Source],
) -> dict[str, Source]:
    """Return the transform from FLAIR to every other image, by contrast."""
    transforms: dict[str, Source] = {}
    for contrast in list(corrected)[1:]:
        register = Node(RegisterRigid(seed=preprocess.random_seed), f"register_{contrast}")
        wf.connect(*corrected["FLAIR"], register, "fixed")
        wf.connect(*brains["FLAIR"], register, "fixed_brain")
        wf.connect(*corrected[contrast], register, "moving")
        wf.connect(*brains[contrast], register, "moving_brain")
        transforms[contrast] = (register, "transform")
    return transforms


def _connect_given_brain(
    wf: Workflow, scan: Scan, brains: Mapping[str, Source], registrations: Mapping[str, Source]
) -> Source:
    """Return the brain mask of the scan: one given for another image, else that of the FLAIR."""
    space = scan.brain_mask_space
    if space not in registrations or space is None:
        return brains["FLAIR"]
    given = Node(ResampleMask(), "resample_brain")
    wf.connect(*brains[space], given, "in_file")
    wf.connect(*brains["FLAIR"], given, "grid")
    wf.connect(*registrations[space], given, "transform")
    return given, "out_file"
