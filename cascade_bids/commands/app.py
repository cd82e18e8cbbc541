"""The BIDS App, and one patient without BIDS."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_bids.commands.folders import require_outside, written_folders
from cascade_bids.config import (
    CONTRASTS,
    VERSION,
    InputConfig,
    MethodConfig,
    ParticipantConfig,
    PreprocessConfig,
    ResourceConfig,
)
from cascade_bids.errors import UsageError
from cascade_bids.machine import usable_cores

if TYPE_CHECKING:
    from cascade_bids.batch import Outcome


def run_bids_app(options: argparse.Namespace) -> int:
    """Run the participant or the group level."""
    output_dir = options.output_dir.resolve()
    if options.level == "group":
        from cascade_bids.group import run_group

        print(run_group(output_dir))
        return 0
    _check_folders(options)
    from cascade_bids.batch import run_participants

    inputs, spaces = _read_inputs(options), tuple(options.output_spaces)
    config = _participant_config(options, output_dir, inputs, spaces)
    return _tell_outcomes(run_participants(config), output_dir)


def run_plan(options: argparse.Namespace) -> int:
    """List the participants who have a scan that is not complete."""
    output_dir = options.output_dir
    _check_folders(options)
    if options.out is not None:
        require_outside("--out", options.out.resolve(), options.bids_dir.resolve())
    from cascade_bids.batch import check_method
    from cascade_bids.bids.outputs import read_ours
    from cascade_bids.plan import find_unfinished
    from cascade_bids.report.page import write_whole

    if output_dir is not None:
        read_ours(output_dir)
    _read_plugin(options)
    check_method(_read_method(options))
    text = "".join(f"{label}\n" for label in find_unfinished(_read_inputs(options), output_dir))
    if options.out is None:
        print(text, end="")
    else:
        write_whole(options.out, text)
    return 0


def run_segment(options: argparse.Namespace) -> int:
    """Find the lesions of one patient."""
    from cascade_bids.batch import run_scans
    from cascade_bids.bids.scan import patient_scan

    others = {c: getattr(options, c) for c in CONTRASTS[1:] if getattr(options, c) is not None}
    scan = patient_scan(options.FLAIR, others)
    output_dir = written_folders(options.out, options.work_dir)["output_dir"]
    inputs = InputConfig(bids_dir=options.FLAIR.resolve().parent)
    config = _participant_config(options, output_dir, inputs, ())
    return _tell_outcomes(run_scans([scan], config), output_dir)


def _check_folders(options: argparse.Namespace) -> None:
    """Refuse to write into the dataset, or where nothing can be written."""
    for name, folder in written_folders(options.output_dir, options.work_dir).items():
        require_outside(name, folder, options.bids_dir.resolve())


def _read_inputs(options: argparse.Namespace) -> InputConfig:
    """Gather which images of which dataset are read."""
    from cascade_bids.bids.inputs import load_filters

    return InputConfig(
        bids_dir=options.bids_dir.resolve(),
        participant_labels=tuple(options.participant_label),
        session_labels=tuple(options.session_label),
        filters=load_filters(options.bids_filter_file) if options.bids_filter_file else {},
        derivatives=_named_paths(options.derivatives),
        database_dir=options.bids_database_dir,
        validate=not options.skip_bids_validation,
    )


def _participant_config(
    options: argparse.Namespace, output_dir: Path, inputs: InputConfig, spaces: tuple[str, ...]
) -> ParticipantConfig:
    plugin = _read_plugin(options)
    given = (plugin or {}).get("plugin_args", {}).get("n_procs")
    nprocs = options.nprocs or given or usable_cores()
    return ParticipantConfig(
        output_dir=output_dir,
        inputs=inputs,
        preprocess=PreprocessConfig(options.skull_strip, options.random_seed, spaces),
        method=_read_method(options),
        resources=ResourceConfig(
            work_dir=options.work_dir and options.work_dir.resolve(),
            clean_work_dir=options.clean_workdir,
            device=options.device,
            nprocs=nprocs,
            omp_nthreads=options.omp_nthreads or nprocs,
            stop_on_first_crash=options.stop_on_first_crash,
            plugin=plugin,
        ),
    )


def _read_plugin(options: argparse.Namespace) -> Mapping[str, Any] | None:
    """Read the file of ``--use-plugin``."""
    if options.use_plugin is None:
        return None
    if options.work_dir is None:
        raise UsageError("--use-plugin needs a --work-dir, in a folder that all nodes see")
    from cascade_bids.execution import read_plugin

    return read_plugin(options.use_plugin)


def _read_method(options: argparse.Namespace) -> MethodConfig:
    method = options.method
    # The steps run in folders of their own.
    absolute = str(Path(method).resolve()) if method.endswith(".json") else method
    return MethodConfig(absolute, options.separate_lesions, options.tta)


def _tell_outcomes(outcomes: "Sequence[Outcome]", output_dir: Path) -> int:
    """Print the closing table; give the exit code."""
    from rich.console import Console
    from rich.table import Table

    table = Table("scan", "result", "load (ml)", "lesions", title=f"cascade_bids {VERSION}")
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    for outcome in outcomes:
        result, stats = "FAILED" if outcome.problem else "complete", outcome.stats
        numbers = ("", "") if stats is None else (f"{stats['load_ml']:.2f}", str(stats["count"]))
        table.add_row(outcome.scan.label, result, *numbers)
    console = Console()
    console.print(table)
    for outcome in failed:
        step = f" at {outcome.failed_step}" if outcome.failed_step else ""
        print(f"{outcome.scan.label} failed{step}: {outcome.problem}")
    print(f"{len(outcomes) - len(failed)} complete, {len(failed)} failed; results in {output_dir}")
    return 1 if failed else 0


def _named_paths(pairs: Sequence[str]) -> dict[str, Path]:
    named = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not (name and separator and path):
            raise UsageError(f"--derivatives {pair}: write NAME=PATH, e.g. fmriprep=/data/fmriprep")
        named[name] = Path(path).resolve()
    return named
