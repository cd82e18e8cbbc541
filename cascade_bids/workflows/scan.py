"""The workflow of a scan, from raw images to derivatives."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nipype import Node, Workflow

from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.config import CONTRASTS, VERSION, ParticipantConfig
from cascade_bids.interfaces.figures import Mosaic
from cascade_bids.interfaces.lesions import LabelLesions, MeasureLesions
from cascade_bids.interfaces.models import FindLesions
from cascade_bids.interfaces.outputs import SaveFigure, SaveScan
from cascade_bids.interfaces.preprocess import ResampleProbability
from cascade_bids.interfaces.quality import MeasureQuality
from cascade_bids.models.card import Cards, MethodCard
from cascade_bids.workflows.execution import workflow_name
from cascade_bids.workflows.preprocess import (
    Gridded,
    Prepared,
    Source,
    connect_anatomy,
    connect_grid,
    connect_preparation,
    merge_sources,
)
from cascade_bids.workflows.resources import count_mvoxels, find_precision, step


def init_participant_wf(scans: Sequence[Scan], config: ParticipantConfig, cards: Cards) -> Workflow:
    """Build the workflow of all scans.

    Parameters
    ----------
    scans
        Scans with the images that the method needs.
    config
        Settings of the run.
    cards
        Cards of the method and of the brain extraction.

    Returns
    -------
    nipype.Workflow
        One subworkflow for each scan, named by `execution.workflow_name`.
    """
    workflow = Workflow("cascade_bids")
    workflow.add_nodes([init_scan_wf(scan, config, cards) for scan in scans])
    return workflow


def init_scan_wf(scan: Scan, config: ParticipantConfig, cards: Cards) -> Workflow:
    """Build the workflow of one scan.

    Every image is conformed, bias-corrected, brain-extracted and registered to the FLAIR. The brain
    of the FLAIR is aligned to the template, which places the network grid, on which the networks
    predict lesions. The probability map is resampled to the grid of the raw FLAIR, where lesions
    are labelled and measured.

    Parameters
    ----------
    scan
        A scan without a problem.
    config
        Settings of the run.
    cards
        Cards of the method and of the brain extraction.

    Returns
    -------
    nipype.Workflow
        Its last node, ``save_scan``, writes the derivatives.
    """
    wf, card = Workflow(workflow_name(scan)), cards.method
    spaces = [s for s in config.preprocess.output_spaces if s != "T1w" or "T1w" in scan.images]
    used = {"FLAIR", *card.contrasts, *spaces, scan.brain_mask_space}
    contrasts = [c for c in CONTRASTS if c in scan.images and c in used]
    scan = replace(scan, images={c: scan.images[c] for c in contrasts})

    prepared = connect_preparation(
        wf, scan, config.preprocess, config.resources, contrasts, cards.brain
    )
    align, registrations = prepared.align, prepared.registrations
    preproc = connect_grid(wf, scan, "flair", prepared, grid=scan.images["FLAIR"])
    prepare = connect_grid(wf, scan, "network", prepared)
    gridded = Gridded(prepare, align, tuple(contrasts))
    anatomy = connect_anatomy(wf, gridded) if card.takes_anatomy else None
    find = _init_networks(wf, config, card, contrasts, prepare, anatomy)
    found = _Found(find, align, card, config.method.separate_lesions)
    measured, measure_lesions = _init_measures(wf, scan, found, preproc, prepared.orientation_known)
    masks = _init_output_spaces(wf, scan, spaces, found, registrations)

    facts = _facts(scan, config, card)
    sink = SaveScan(scan=scan, config=config, facts=facts, contrasts=contrasts, spaces=spaces)
    save = step(sink, "save_scan")
    outputs: dict[str, Source | None] = {
        **measured,
        "brain_mask": (preproc, "brain"),
        "preproc": (preproc, "out_files"),
        "template_to_flair": (align, "affine"),
        "flair_to_template": (align, "inverse"),
        "transforms": prepared.transforms,
        "space_masks": merge_sources(wf, "space_masks", masks),
        "warnings": prepared.warnings,
        "measures": _init_quality(wf, scan, contrasts, prepared, prepare, measure_lesions),
    }
    for target, source in outputs.items():
        if source is not None:
            wf.connect(*source, save, target)

    known = prepared.orientation_known
    figures: dict[str, dict[str, Source]] = {
        "brain": {"flair": prepared.corrected["FLAIR"], "brain": prepared.brain},
        "lesions": {
            "flair": prepared.conformed["FLAIR"],
            "lesions": measured["lesion_mask"],
            "brain": (preproc, "brain"),
        },
    }
    for name, sources in figures.items():
        figure = _init_figure(wf, scan, config, name, {**sources, "orientation_known": known})
        wf.connect(save, "stats", figure, "stats")
    return wf


def _init_networks(
    wf: Workflow,
    config: ParticipantConfig,
    card: MethodCard,
    contrasts: Sequence[str],
    prepare: Node,
    anatomy: Source | None,
) -> Node:
    """Add the node that runs the networks of the method on the network grid."""
    threads = config.resources.omp_nthreads
    networks = FindLesions(
        card=card,
        contrasts=list(contrasts),
        device=config.resources.device,
        threads=threads,
        mirrored=config.method.tta,
        precision=find_precision(config.resources),
    )
    find = step(networks, "find_lesions", threads=threads)
    wf.connect(prepare, "out_files", find, "in_files")
    wf.connect(prepare, "brain", find, "brain")
    if anatomy is not None:
        wf.connect(*anatomy, find, "anatomy")
    return find


class _Found(NamedTuple):
    """Nodes of the predicted maps and of the alignment, and settings for labelling lesions."""

    find: Node
    align: Node
    card: MethodCard
    separate: bool


def _init_labels(
    wf: Workflow,
    found: _Found,
    space: str = "",
    grid: Path | None = None,
    to_flair: Source | None = None,
) -> tuple[Node, Node]:
    """Resample the networks' maps to a space and label the lesions there; return both nodes."""
    suffix = f"_{space}" if space else ""

    mvoxels = 0 if grid is None else count_mvoxels([grid])

    def resample(name: str, output: str) -> Node:
        node = step(ResampleProbability(), f"resample_{name}{suffix}", mvoxels=mvoxels)
        if grid is not None:
            node.inputs.grid = str(grid)
        wf.connect(found.find, output, node, "in_file")
        wf.connect(found.align, "rigid", node, "rigid")
        if to_flair is not None:
            wf.connect(*to_flair, node, "to_flair")
        return node

    probability = resample("probability", "out_file")
    label = step(
        LabelLesions(**vars(found.card.operating_point)), f"label_lesions{suffix}", mvoxels=mvoxels
    )
    wf.connect(probability, "out_file", label, "in_file")
    # In other spaces only the mask is saved, which separation does not change.
    if found.separate and not space:
        wf.connect(resample("spheres", "spheres"), "out_file", label, "spheres")
    return probability, label


def _init_measures(
    wf: Workflow, scan: Scan, found: _Found, preproc: Node, orientation_known: Source
) -> tuple[dict[str, Source], Node]:
    """Label and measure the lesions on the grid of the raw FLAIR.

    Returns the outputs by name, and the node that measures.
    """
    probability, label = _init_labels(wf, found, grid=scan.images["FLAIR"])
    mvoxels = count_mvoxels([scan.images["FLAIR"]])
    point = vars(found.card.operating_point)
    measure = step(MeasureLesions(**point), "measure_lesions", mvoxels=mvoxels)
    if found.card.load_factor is not None:
        measure.inputs.load_factor = found.card.load_factor
    if found.card.confidence is not None:
        measure.inputs.confidence = list(found.card.confidence)
    wf.connect(label, "labels", measure, "labels")
    wf.connect(probability, "out_file", measure, "probability")
    wf.connect(preproc, "brain", measure, "brain")
    wf.connect(found.align, "affine", measure, "template_to_flair")
    wf.connect(*orientation_known, measure, "orientation_known")
    outputs: dict[str, Source] = {
        "lesion_mask": (label, "mask"),
        "lesion_dseg": (label, "labels"),
        "lesion_probseg": (probability, "out_file"),
        "lesion_table": (measure, "table"),
        "summary": (measure, "summary"),
    }
    return outputs, measure


def _init_quality(
    wf: Workflow,
    scan: Scan,
    contrasts: Sequence[str],
    prepared: Prepared,
    prepare: Node,
    measure_lesions: Node,
) -> Source:
    """Measure how far the numbers can be trusted."""
    mvoxels = count_mvoxels([scan.images["FLAIR"]])
    node = step(MeasureQuality(contrasts=list(contrasts)), "measure_quality", mvoxels=mvoxels)
    inputs: dict[str, Source] = {
        "in_files": (prepare, "out_files"),
        "brain": (prepare, "brain"),
        "rigid": (prepared.align, "rigid"),
        "affine": (prepared.align, "affine"),
        "flair": prepared.corrected["FLAIR"],
        "flair_brain": prepared.brain,
        "summary": (measure_lesions, "summary"),
        "expected_error_ml": (measure_lesions, "expected_error_ml"),
        "orientation_known": prepared.orientation_known,
    }
    for target, source in inputs.items():
        wf.connect(*source, node, target)
    return node, "measures"


def _init_output_spaces(
    wf: Workflow,
    scan: Scan,
    spaces: Sequence[str],
    found: _Found,
    registrations: Mapping[str, Source],
) -> list[Source]:
    """Resample the probability map to each further space and label the lesions there."""
    masks: list[Source] = []
    for space in spaces:
        if space == "T1w":
            grid, to_flair = scan.images["T1w"], registrations["T1w"]
        else:
            grid, to_flair = None, (found.align, "affine")
        _, label = _init_labels(wf, found, space, grid, to_flair)
        masks.append((label, "mask"))
    return masks


def _init_figure(
    wf: Workflow,
    scan: Scan,
    config: ParticipantConfig,
    name: str,
    sources: Mapping[str, Source],
) -> Node:
    """Draw the FLAIR with outlines, once these inputs of `Mosaic` are available.

    Returns the node that saves it.
    """
    mvoxels = count_mvoxels([scan.images["FLAIR"]])
    mosaic = step(Mosaic(), f"draw_{name}", mvoxels=mvoxels)
    for target, source in sources.items():
        wf.connect(*source, mosaic, target)

    def save(kind: str) -> Node:
        out_path = output_path(config.output_dir, scan, "figure", desc=name)
        interface = SaveFigure(scan=scan, root=str(config.output_dir), out_path=str(out_path))
        node = step(interface, f"{kind}_{name}")
        wf.connect(mosaic, "out_file", node, "in_file")
        return node

    save("save_early_figure")  # shows how far a scan came that fails later and had no result
    return save("save_figure")


def _facts(scan: Scan, config: ParticipantConfig, card: MethodCard) -> dict[str, Any]:
    """Return the entries of the stats file besides the volumes."""
    return {
        "method": card.name,
        "contrasts": "+".join(c for c in card.contrasts if c in scan.images),
        "version": VERSION,
        "weights_sha256": card.weights_sha256,
        "threshold": card.operating_point.threshold,
        "min_lesion_mm3": card.operating_point.min_lesion_mm3,
        "peak": card.operating_point.min_peak,
        "temperature": card.temperature,
        "separate_lesions": config.method.separate_lesions,
        "tta": config.method.tta,
        "precision": find_precision(config.resources),
        "random_seed": config.preprocess.random_seed,
        "skull_strip": config.preprocess.skull_strip,
        "warnings": _warnings(scan, config, card),
    }


def _warnings(scan: Scan, config: ParticipantConfig, card: MethodCard) -> list[str]:
    """Return warnings for readers of the results."""
    warnings = []
    others = [c for c in card.contrasts if c != "FLAIR"]
    # Scans without a required contrast were refused before, so only optional ones are missing.
    if others and not scan.images.keys() & others:
        warnings.append(
            f"There was only a FLAIR, where {' and '.join(others)} may help: more of the small "
            "lesions are missed."
        )
    if "T1w" in config.preprocess.output_spaces and "T1w" not in scan.images:
        warnings.append("There is no T1w image, so there is no lesion mask in T1w space.")
    if config.preprocess.skull_strip == "skip":
        warnings.append("The images were taken as brain-extracted: the ICV is what is not 0.")
    return warnings
