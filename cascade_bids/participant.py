"""The journey of a scan, from raw images to derivatives, wired with Nipype on one page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nipype import Node, Workflow
from nipype.interfaces.utility import Merge

from cascade_bids.bids.nodes import Save, SaveScan
from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.config import CONTRASTS, VERSION, ParticipantConfig
from cascade_bids.lesions.nodes import LabelLesions, MeasureLesions
from cascade_bids.network.nodes import ExtractBrain, FindLesions
from cascade_bids.network.weights import weights_id
from cascade_bids.preprocess.nodes import (
    AlignToTemplate,
    Conform,
    CorrectBias,
    NonzeroMask,
    Prepare,
    RegisterRigid,
    ResampleMask,
    ResampleProbability,
)
from cascade_bids.report.nodes import Mosaic

Source = tuple[Node, str]
"""A node and the name of one of its outputs."""


def init_participant_wf(
    scans: Sequence[Scan], config: ParticipantConfig, card: Mapping[str, Any], work_dir: Path
) -> Workflow:
    """Put the journeys of all scans side by side.

    Parameters
    ----------
    scans
        Those that have what the method needs.
    config
        What the run was asked.
    card
        Of the method.
    work_dir
        Where intermediate files go, in a folder for this version of the product.

    Returns
    -------
    nipype.Workflow
        One subworkflow for each scan, named by `workflow_name`.
    """
    workflow = Workflow("cascade_bids", base_dir=str(work_dir / f"version-{VERSION}"))
    workflow.add_nodes([init_scan_wf(scan, config, card) for scan in scans])
    return workflow


def workflow_name(scan: Scan) -> str:
    """Name a scan as Nipype allows it.

    Examples
    --------
    >>> workflow_name(Scan("01", "2", None))
    'sub_01_ses_2'
    """
    return re.sub(r"\W", "_", scan.label)


def init_scan_wf(scan: Scan, config: ParticipantConfig, card: Mapping[str, Any]) -> Workflow:
    """Wire the journey of one scan.

    Every image is conformed, bias-corrected and brain-extracted by itself, and registered to the
    FLAIR. The FLAIR's brain is aligned to the template, which places the network grid; there the
    cascade finds lesions. The probability map returns to the raw FLAIR's own grid, where lesions
    are numbered and measured.

    Parameters
    ----------
    scan
        A scan without a problem.
    config
        What the run was asked.
    card
        Of the method: its contrasts, threshold and smallest lesion.

    Returns
    -------
    nipype.Workflow
        Its last node, ``save_scan``, writes the derivatives.
    """
    wf = Workflow(workflow_name(scan))
    spaces = [s for s in config.preprocess.output_spaces if s != "T1w" or "T1w" in scan.images]
    used = {"FLAIR", *card["contrasts"], *spaces, scan.brain_mask_space}
    contrasts = [c for c in CONTRASTS if c in scan.images and c in used]
    scan = replace(scan, images={c: scan.images[c] for c in contrasts})
    rules = {name: card[name] for name in ("threshold", "min_lesion_mm3")}

    corrected, brains = _init_images(wf, scan, config, contrasts)
    registrations = _init_registrations(wf, config, corrected, brains)
    brain = _init_given_brain(wf, scan, brains, registrations)
    align = Node(AlignToTemplate(seed=config.preprocess.random_seed), "align_to_template")
    wf.connect(*corrected["FLAIR"], align, "in_file")
    wf.connect(*brain, align, "brain")

    transforms = _merge(wf, "transforms", list(registrations.values()))
    prepare, preproc = _init_grids(wf, scan, corrected, brain, transforms)
    wf.connect(align, "rigid", prepare, "rigid")
    find = _init_cascade(wf, config, contrasts, prepare)
    measured = _init_measures(wf, scan, rules, (find, align, preproc))
    masks = _init_output_spaces(wf, scan, spaces, rules, (find, align), registrations)

    facts = _facts(scan, config, card)
    sink = SaveScan(scan=scan, config=config, facts=facts, contrasts=contrasts, spaces=spaces)
    save = Node(sink, "save_scan")
    outputs: dict[str, Source | None] = {
        **measured,
        "brain_mask": (preproc, "brain"),
        "preproc": (preproc, "out_files"),
        "template_to_flair": (align, "affine"),
        "flair_to_template": (align, "inverse"),
        "transforms": transforms,
        "space_masks": _merge(wf, "space_masks", masks),
    }
    for target, source in outputs.items():
        if source is not None:
            wf.connect(*source, save, target)

    _init_figure(wf, scan, config, "brain", corrected["FLAIR"], {"brain": brain})
    outlines = {"lesions": measured["lesion_mask"], "brain": (preproc, "brain")}
    _init_figure(wf, scan, config, "lesions", None, outlines)
    return wf


def _init_images(
    wf: Workflow, scan: Scan, config: ParticipantConfig, contrasts: Sequence[str]
) -> tuple[dict[str, Source], dict[str, Source]]:
    """Conform, bias-correct and brain-extract every image; give images and brains by contrast."""
    corrected: dict[str, Source] = {}
    brains: dict[str, Source] = {}
    for contrast in contrasts:
        conform = Node(Conform(in_file=str(scan.images[contrast])), f"conform_{contrast}")
        n4 = Node(CorrectBias(), f"correct_bias_{contrast}", mem_gb=1)
        wf.connect(conform, "out_file", n4, "in_file")
        corrected[contrast] = (n4, "out_file")
        name = f"extract_brain_{contrast}"
        if config.preprocess.skull_strip == "skip":
            brain = Node(NonzeroMask(), name)
            wf.connect(conform, "out_file", brain, "in_file")
        elif scan.brain_mask is not None and scan.brain_mask_space == contrast:
            brain = Node(ResampleMask(in_file=str(scan.brain_mask)), name)
            wf.connect(conform, "out_file", brain, "grid")
        else:
            threads = config.resources.omp_nthreads
            extract = ExtractBrain(
                device=config.method.device, threads=threads, weights=weights_id("brain")
            )
            brain = Node(extract, name, mem_gb=1, n_procs=threads)
            wf.connect(n4, "out_file", brain, "in_file")
        brains[contrast] = (brain, "out_file")
    return corrected, brains


def _init_registrations(
    wf: Workflow,
    config: ParticipantConfig,
    corrected: Mapping[str, Source],
    brains: Mapping[str, Source],
) -> dict[str, Source]:
    """Register every other image to the FLAIR; give the transforms by contrast."""
    transforms: dict[str, Source] = {}
    for contrast in list(corrected)[1:]:
        register = Node(RegisterRigid(seed=config.preprocess.random_seed), f"register_{contrast}")
        wf.connect(*corrected["FLAIR"], register, "fixed")
        wf.connect(*brains["FLAIR"], register, "fixed_brain")
        wf.connect(*corrected[contrast], register, "moving")
        wf.connect(*brains[contrast], register, "moving_brain")
        transforms[contrast] = (register, "transform")
    return transforms


def _init_given_brain(
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


def _init_grids(
    wf: Workflow,
    scan: Scan,
    corrected: Mapping[str, Source],
    brain: Source,
    transforms: Source | None,
) -> tuple[Node, Node]:
    """Bring all images to the network grid and to the raw FLAIR's own grid, normalised."""
    contrasts = list(corrected)
    images = _merge(wf, "images", list(corrected.values()))
    flair = str(scan.images["FLAIR"])
    prepare = Node(Prepare(contrasts=contrasts), "prepare_network_grid", mem_gb=1)
    preproc = Node(Prepare(contrasts=contrasts, grid=flair), "prepare_flair_grid", mem_gb=1)
    for node in (prepare, preproc):
        for target, source in {
            "in_files": images,
            "brain": brain,
            "transforms": transforms,
        }.items():
            if source is not None:
                wf.connect(*source, node, target)
    return prepare, preproc


def _init_cascade(
    wf: Workflow, config: ParticipantConfig, contrasts: Sequence[str], prepare: Node
) -> Node:
    """Run the cascade on the network grid."""
    threads = config.resources.omp_nthreads
    cascade = FindLesions(
        method=config.method.method,
        contrasts=list(contrasts),
        device=config.method.device,
        threads=threads,
        weights=weights_id(config.method.method),
    )
    find = Node(cascade, "find_lesions", mem_gb=2, n_procs=threads)
    wf.connect(prepare, "out_files", find, "in_files")
    wf.connect(prepare, "brain", find, "brain")
    return find


def _init_measures(
    wf: Workflow, scan: Scan, rules: Mapping[str, float], found: tuple[Node, Node, Node]
) -> dict[str, Source]:
    """Label and measure the lesions on the raw FLAIR's grid; give the outputs by name."""
    find, align, preproc = found
    grid = str(scan.images["FLAIR"])
    probability = Node(ResampleProbability(grid=grid), "resample_probability")
    wf.connect(find, "out_file", probability, "in_file")
    wf.connect(align, "rigid", probability, "rigid")
    label = Node(LabelLesions(**rules), "label_lesions")
    wf.connect(probability, "out_file", label, "in_file")
    measure = Node(MeasureLesions(), "measure_lesions")
    wf.connect(label, "labels", measure, "labels")
    wf.connect(probability, "out_file", measure, "probability")
    wf.connect(preproc, "brain", measure, "brain")
    wf.connect(align, "affine", measure, "template_to_flair")
    return {
        "lesion_mask": (label, "mask"),
        "lesion_dseg": (label, "labels"),
        "lesion_probseg": (probability, "out_file"),
        "lesion_table": (measure, "table"),
        "summary": (measure, "summary"),
    }


def _init_output_spaces(
    wf: Workflow,
    scan: Scan,
    spaces: Sequence[str],
    rules: Mapping[str, float],
    found: tuple[Node, Node],
    registrations: Mapping[str, Source],
) -> list[Source]:
    """Resample the probability to each further space and apply the rules of size again there."""
    find, align = found
    masks: list[Source] = []
    for space in spaces:
        resample = Node(ResampleProbability(), f"resample_probability_{space}")
        wf.connect(find, "out_file", resample, "in_file")
        wf.connect(align, "rigid", resample, "rigid")
        if space == "T1w":
            resample.inputs.grid = str(scan.images["T1w"])
            wf.connect(*registrations["T1w"], resample, "to_flair")
        else:
            wf.connect(align, "affine", resample, "to_flair")
        label = Node(LabelLesions(**rules), f"label_lesions_{space}")
        wf.connect(resample, "out_file", label, "in_file")
        masks.append((label, "mask"))
    return masks


def _init_figure(
    wf: Workflow,
    scan: Scan,
    config: ParticipantConfig,
    name: str,
    flair: Source | None,
    outlines: Mapping[str, Source],
) -> None:
    """Draw the FLAIR (the raw one by default) with outlines, as soon as there is what to draw."""
    mosaic = Node(Mosaic(), f"draw_{name}")
    if flair is None:
        mosaic.inputs.flair = str(scan.images["FLAIR"])
    else:
        wf.connect(*flair, mosaic, "flair")
    for target, source in outlines.items():
        wf.connect(*source, mosaic, target)
    out_path = output_path(config.output_dir, scan, "figure", desc=name)
    save = Node(Save(out_path=str(out_path)), f"save_figure_{name}")
    wf.connect(mosaic, "out_file", save, "in_file")


def _merge(wf: Workflow, name: str, sources: Sequence[Source]) -> Source | None:
    """Gather outputs of several nodes in one list; None where there is nothing to gather."""
    if not sources:
        return None
    merge = Node(Merge(len(sources)), f"merge_{name}")
    for number, source in enumerate(sources, start=1):
        wf.connect(*source, merge, f"in{number}")
    return merge, "out"


def _facts(scan: Scan, config: ParticipantConfig, card: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the stats file tells beside the volumes."""
    return {
        "method": config.method.method,
        "version": VERSION,
        "weights_sha256": weights_id(config.method.method),
        "threshold": card["threshold"],
        "min_lesion_mm3": card["min_lesion_mm3"],
        "random_seed": config.preprocess.random_seed,
        "skull_strip": config.preprocess.skull_strip,
        "warnings": _warnings(scan, config),
    }


def _warnings(scan: Scan, config: ParticipantConfig) -> list[str]:
    """Say what a reader of the numbers should know, as far as the headers tell."""
    warnings = []
    if "T1w" in config.preprocess.output_spaces and "T1w" not in scan.images:
        warnings.append("There is no T1w image, so there is no lesion mask in T1w space.")
    if config.preprocess.skull_strip == "skip":
        warnings.append("The images were taken as brain-extracted: the ICV is what is not 0.")
    return warnings
