"""The workflow that compares the sessions of a participant, from their derivatives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype import Node, Workflow

from cascade_bids.bids.change_outputs import SessionResult, change_paths
from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.config import TEMPLATE_SPACE
from cascade_bids.interfaces.change import (
    BringSession,
    BringT1w,
    CompareSessions,
    DrawOnSession,
    PlaceSessions,
    RegisterSessions,
)
from cascade_bids.interfaces.outputs import SaveChange
from cascade_bids.workflows.execution import workflow_name
from cascade_bids.workflows.preprocess import Source, merge
from cascade_bids.workflows.resources import count_mvoxels, step


def init_change_wf(
    results: Sequence[SessionResult],
    root: Path,
    *,
    min_change_mm3: float,
    years: Sequence[float | None],
    facts: dict[str, Any],
    bids_dir: Path,
    seed: int,
) -> Workflow:
    """Build the workflow that compares the sessions of a participant.

    All sessions are registered to the first one, which gives the space halfway between them. Each
    is resampled once into that space, where lesions are found in all sessions together and get
    their numbers. What is found is drawn on the grid of each raw FLAIR.

    Parameters
    ----------
    results
        Two sessions or more, in the order of time.
    root
        Root of the derivatives.
    min_change_mm3
        Smallest change of a lesion, mm³.
    years
        Length of each interval; None if it is not known.
    facts
        Entries of the statistics besides the intervals.
    bids_dir
        Root of the raw dataset.
    seed
        Seed of the registration.

    Returns
    -------
    nipype.Workflow
        Its last node, ``save_change``, writes the derivatives.
    """
    wf = Workflow(workflow_name(Scan(results[0].scan.subject, None, None)))
    files = [_files(root, result.scan) for result in results]
    names = [f"ses-{result.scan.session}" for result in results]
    mvoxels = count_mvoxels([one["flair"] for one in files])

    place = step(PlaceSessions(brains=[str(one["brain"]) for one in files]), "place_sessions")
    wf.connect(*_connect_registrations(wf, files, names, seed, mvoxels), place, "transforms")
    brought = [
        _connect_session(wf, number, one, name, place, mvoxels)
        for number, (one, name) in enumerate(zip(files, names, strict=True))
    ]
    compare = _make_comparison(results, files, names, years, min_change_mm3, mvoxels)
    save = step(SaveChange(root=str(root), results=list(results), facts=facts), "save_change")
    t1ws = _connect_t1ws(wf, results, root, bids_dir, names, place, brought)
    save.inputs.t1w_numbers = list(t1ws)
    if t1ws:
        wf.connect(*merge(wf, "t1ws", list(t1ws.values())), save, "t1ws")
    inputs = {"flair": "flairs", "brain": "brains", "probability": "probabilities"}
    for output, name in {**inputs, "earlier": "earlier"}.items():
        merged = merge(wf, name, [(node, output) for node in brought])
        wf.connect(*merged, compare, name)
        if name == "flairs":
            wf.connect(*merged, save, name)
    wf.connect(place, "from_common", compare, "from_common")
    drawn = [
        _connect_drawing(wf, number, one, name, place, compare)
        for number, (one, name) in enumerate(zip(files, names, strict=True))
    ]
    for output in ("tracked", "changes"):
        name = f"own_{output}"
        wf.connect(*merge(wf, name, [(node, output) for node in drawn]), save, name)
    for name in ("brain", "tracked", "changes", "masks", "table", "intervals"):
        wf.connect(compare, name, save, name)
    for name in ("from_common", "to_common"):
        wf.connect(place, name, save, name)
    return wf


def _make_comparison(
    results: Sequence[SessionResult],
    files: Sequence[dict[str, Path]],
    names: Sequence[str],
    years: Sequence[float | None],
    min_change_mm3: float,
    mvoxels: float,
) -> Node:
    """Make the node that compares the sessions, which share the settings of their methods."""
    stats = results[0].stats
    interface = CompareSessions(
        sessions=list(names),
        years=list(years),
        threshold=stats["threshold"],
        min_lesion_mm3=stats["min_lesion_mm3"],
        min_peak=stats["peak"],
        min_change_mm3=min_change_mm3,
        # It is null where the header does not tell the orientation.
        orientation_known=all(one.stats["by_location"] is not None for one in results),
        template_to_flair=str(files[0]["template_to_flair"]),
    )
    return step(interface, "compare_sessions", mvoxels=mvoxels * len(results))


def join(workflows: Sequence[Workflow]) -> Workflow:
    """Join the workflows of several participants, as `execution.run_workflow` takes them."""
    joined = Workflow("cascade_bids")
    joined.add_nodes(list(workflows))
    return joined


def _files(root: Path, scan: Scan) -> dict[str, Path]:
    """Return the outputs of a session that are compared."""
    return {
        "flair": output_path(root, scan, "preproc", contrast="FLAIR"),
        "brain": output_path(root, scan, "brain_mask"),
        "probability": output_path(root, scan, "lesion_probseg"),
        "labels": output_path(root, scan, "lesion_dseg"),
        "template_to_flair": output_path(root, scan, "xfm", from_="FLAIR", to=TEMPLATE_SPACE),
        "earlier": change_paths(root, scan)["tracked_FLAIR"],
    }


def _connect_registrations(
    wf: Workflow,
    files: Sequence[dict[str, Path]],
    names: Sequence[str],
    seed: int,
    mvoxels: float,
) -> Source:
    """Register the first session to each other one; return the transforms."""
    first, *others = files
    found: list[Source] = []
    for other, name in zip(others, names[1:], strict=True):
        interface = RegisterSessions(
            first=str(first["flair"]),
            first_brain=str(first["brain"]),
            second=str(other["flair"]),
            second_brain=str(other["brain"]),
            seed=seed,
        )
        found.append((step(interface, f"register_{_word(name)}", mvoxels=mvoxels), "transform"))
    return merge(wf, "transforms", found)


def _connect_session(
    wf: Workflow, number: int, files: dict[str, Path], name: str, place: Node, mvoxels: float
) -> Node:
    """Resample a session into the common space."""
    given = {key: str(files[key]) for key in ("flair", "brain", "probability")}
    if files["earlier"].exists():
        given["earlier"] = str(files["earlier"])
    bring = step(BringSession(number=number, **given), f"bring_{_word(name)}", mvoxels=mvoxels)
    wf.connect(place, "from_common", bring, "from_common")
    wf.connect(place, "grid", bring, "grid")
    return bring


def _connect_t1ws(
    wf: Workflow,
    results: Sequence[SessionResult],
    root: Path,
    bids_dir: Path,
    names: Sequence[str],
    place: Node,
    brought: Sequence[Node],
) -> dict[int, Source]:
    """Resample the T1w of each session that has one; return them by number of the session."""
    found: dict[int, Source] = {}
    for number, (result, name) in enumerate(zip(results, names, strict=True)):
        raw = result.find_raw("T1w", bids_dir)
        to_t1w = output_path(root, result.scan, "xfm", from_="T1w", to="FLAIR")
        if raw is not None and to_t1w.exists():
            interface = BringT1w(number=number, in_file=str(raw), to_t1w=str(to_t1w))
            node = step(interface, f"bring_T1w_{_word(name)}", mvoxels=count_mvoxels([raw]))
            wf.connect(place, "from_common", node, "from_common")
            wf.connect(brought[number], "brain", node, "brain")
            found[number] = node, "out_file"
    return found


def _connect_drawing(
    wf: Workflow, number: int, files: dict[str, Path], name: str, place: Node, compare: Node
) -> Node:
    """Draw what is found on the grid of a session's raw FLAIR."""
    interface = DrawOnSession(number=number, grid=str(files["labels"]))
    draw = step(interface, f"resample_to_{_word(name)}")
    wf.connect(place, "to_common", draw, "to_common")
    for output in ("tracked", "changes"):
        wf.connect(compare, output, draw, output)
    return draw


def _word(name: str) -> str:
    """Return the name of a session as Nipype takes it: ``ses_1``."""
    return name.replace("-", "_")
