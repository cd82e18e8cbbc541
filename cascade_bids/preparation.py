"""The first half of the journey, wired with Nipype: to the network grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nipype import Node, Workflow
from nipype.interfaces.utility import Merge

from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.config import TEMPLATE_SPACE, PreprocessConfig, ResourceConfig
from cascade_bids.network.nodes import ExtractBrain
from cascade_bids.network.weights import weights_id
from cascade_bids.preprocess.nodes import (
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

Source = tuple[Node, str]
"""A node and the name of one of its outputs."""


@dataclass(frozen=True)
class Prepared:
    """What the preparation of a scan leaves for later steps."""

    corrected: Mapping[str, Source]
    """Contrast to its image without shading, on its own grid; the FLAIR first."""
    brain: Source
    """Brain of the scan, on the FLAIR."""
    registrations: Mapping[str, Source]
    """Other contrast to the transform from FLAIR to it."""
    images: Source
    """All of `corrected`, in its order."""
    transforms: Source | None
    """All of `registrations`, in their order; None without any."""
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
    """Of the images; the FLAIR first."""


def connect_preparation(
    wf: Workflow,
    scan: Scan,
    preprocess: PreprocessConfig,
    resources: ResourceConfig,
    contrasts: Sequence[str],
) -> Prepared:
    """Conform, correct and brain-extract every image by itself, and register all to the FLAIR.

    Parameters
    ----------
    wf
        The scan's workflow, which gets the nodes.
    scan
        A scan without a problem.
    preprocess, resources
        How, and with what.
    contrasts
        Which of its images; the FLAIR first.

    Returns
    -------
    Prepared
        What can be connected to further nodes.
    """
    corrected, brains = _connect_images(wf, scan, preprocess, resources, contrasts)
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
    """Say where an earlier run left a scan's brain mask and its alignment to the template."""
    # A transform is named by the images that it resamples, so this one takes points the other way.
    xfm = {"from_": "FLAIR", "to": TEMPLATE_SPACE}
    return {
        "brain": output_path(derivatives, scan, "brain_mask"),
        "template_to_flair": output_path(derivatives, scan, "xfm", **xfm),
    }


def connect_normalised(
    wf: Workflow, scan: Scan, contrasts: Sequence[str], derivatives: Path
) -> Gridded:
    """Bring what an earlier run left of a scan to the network grid: images, brain, alignment.

    Parameters
    ----------
    wf
        The scan's workflow, which gets the nodes.
    scan
        A scan of our own derivatives, whose images are ``desc-preproc``.
    contrasts
        Which of its images; the FLAIR first.
    derivatives
        Their root.

    Returns
    -------
    Gridded
        What can be connected to further nodes.
    """
    files = {name: str(path) for name, path in normalised_files(derivatives, scan).items()}
    images: list[Source] = []
    for contrast in contrasts:
        conform = Node(Conform(in_file=str(scan.images[contrast])), f"conform_{contrast}")
        images.append((conform, "out_file"))
    # The mask is not conformed, so it may be stored in another order.
    brain = Node(ResampleMask(in_file=files["brain"]), "conform_brain")
    wf.connect(*images[0], brain, "grid")
    align = Node(ReadAlignment(in_file=files["template_to_flair"]), "read_alignment")
    prepare = Node(BringNormalised(contrasts=list(contrasts)), "prepare_network_grid", mem_gb=1)
    wf.connect(*_merge(wf, "images", images), prepare, "in_files")
    wf.connect(brain, "out_file", prepare, "brain")
    wf.connect(align, "rigid", prepare, "rigid")
    return Gridded(prepare, align, tuple(contrasts))


def connect_grid(wf: Workflow, name: str, prepared: Prepared, *, grid: Path | None = None) -> Node:
    """Bring all images of a scan onto one grid and normalise them there.

    Parameters
    ----------
    wf
        The scan's workflow.
    name
        Of the grid, for the node.
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
    """Measure the anatomical coordinates of a scan that has a T1w, on the network grid.

    Parameters
    ----------
    wf
        The scan's workflow.
    gridded
        The scan on the network grid.

    Returns
    -------
    Source
        One image with `preprocess.anatomy.ANATOMY` along its fourth axis.
    """
    interface = MeasureAnatomy(contrasts=list(gridded.contrasts))
    node = Node(interface, "measure_anatomy", mem_gb=1)
    wf.connect(gridded.prepare, "out_files", node, "in_files")
    wf.connect(gridded.prepare, "brain", node, "brain")
    wf.connect(gridded.align, "rigid", node, "rigid")
    wf.connect(gridded.align, "affine", node, "affine")
    return node, "out_file"


def merge_sources(wf: Workflow, name: str, sources: Sequence[Source]) -> Source | None:
    """Gather outputs of several nodes in one list; None where there is nothing to gather."""
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
) -> tuple[dict[str, Source], dict[str, Source]]:
    """Give images and brains by contrast."""
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
            extract = ExtractBrain(
                device=resources.device, threads=threads, weights=weights_id("brain")
            )
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
    """Give the transform from FLAIR to every other image, by contrast."""
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
    """Choose the scan's brain: a mask given on another image where there is one, else FLAIR's."""
    space = scan.brain_mask_space
    if space not in registrations or space is None:
        return brains["FLAIR"]
    given = Node(ResampleMask(), "resample_brain")
    wf.connect(*brains[space], given, "in_file")
    wf.connect(*brains["FLAIR"], given, "grid")
    wf.connect(*registrations[space], given, "transform")
    return given, "out_file"
