"""Options of runs on images, and the config that they make."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade_bids.cli.folders import require_outside, written_folders
from cascade_bids.cli.options import (
    add_choice,
    add_machine,
    add_preparation,
    gigabytes,
    probability,
    volume,
)
from cascade_bids.config import (
    TEMPLATE_SPACE,
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
    from cascade_bids.app.participant import Outcome


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run on a dataset."""
    choose = add_choice(parser)
    choose.add_argument(
        "--bids-filter-file", type=Path, metavar="FILE", help="JSON that narrows the images"
    )
    choose.add_argument(
        "--skip-bids-validation",
        action="store_true",
        help="take names that BIDS does not know too",
    )
    choose.add_argument(
        "--derivatives",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=PATH",
        help="derivatives with brain masks to use",
    )
    choose.add_argument(
        "--bids-database-dir",
        type=Path,
        metavar="DIR",
        help="keep the index of a large dataset here",
    )
    choose.add_argument(
        "--output-spaces",
        nargs="+",
        action="extend",
        default=[],
        choices=("T1w", TEMPLATE_SPACE),
        metavar="SPACE",
        help=f"of further masks: T1w, {TEMPLATE_SPACE}",
    )
    choose.add_argument(
        "--longitudinal",
        choices=("on", "off"),
        default="on",
        help="compare sessions (default: %(default)s)",
    )
    choose.add_argument(
        "--min-change-mm3",
        type=volume,
        default=ParticipantConfig.min_change_mm3,
        metavar="V",
        help="smallest change of a lesion, mm³ (default: %(default)g)",
    )
    add_processing(parser)


def add_processing(parser: argparse.ArgumentParser) -> None:
    """Add how scans are processed, and with what."""
    how = parser.add_argument_group("how")
    how.add_argument(
        "--method",
        default=MethodConfig.method,
        help="name or card (.json) (default: %(default)s)",
    )
    how.add_argument(
        "--separate-lesions",
        action="store_true",
        help="number confluent lesions one by one",
    )
    how.add_argument(
        "--tta", action="store_true", help="test-time augmentation: mirrored heads too"
    )
    how.add_argument(
        "--threshold",
        type=probability,
        metavar="P",
        help="lowest probability of a lesion voxel",
    )
    how.add_argument(
        "--min-lesion-mm3",
        type=volume,
        metavar="V",
        help="smallest lesion, mm³",
    )
    add_preparation(how)
    machine = add_machine(parser, threads="--nprocs by scans")
    machine.add_argument(
        "--precision",
        choices=("auto", "float32"),
        default="auto",
        help="of networks; auto: bfloat16 where it is fast",
    )
    parser.set_defaults(nprocs=None)  # a plugin may say it
    machine.add_argument(
        "--mem",
        type=gigabytes,
        metavar="GB",
        help="memory of the run (default: 90 %% of all)",
    )
    machine.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="keep steps here; go on where a run broke off",
    )
    machine.add_argument(
        "--clean-workdir", action="store_true", help="empty the work folder after the run"
    )
    machine.add_argument(
        "--use-plugin",
        type=Path,
        metavar="FILE",
        help="YAML of Nipype's plugin and plugin_args",
    )
    machine.add_argument(
        "--stop-on-first-crash", action="store_true", help="don't go on after a scan failed"
    )


def check_folders(options: argparse.Namespace) -> None:
    """Refuse to write into the dataset, or where nothing can be written."""
    for name, folder in written_folders(options.output_dir, options.work_dir).items():
        require_outside(name, folder, options.bids_dir.resolve())


def read_inputs(options: argparse.Namespace) -> InputConfig:
    """Return which images of which dataset are read."""
    from cascade_bids.bids.filters import load_filters

    return InputConfig(
        bids_dir=options.bids_dir.resolve(),
        participant_labels=tuple(options.participant_label),
        session_labels=tuple(options.session_label),
        filters=load_filters(options.bids_filter_file) if options.bids_filter_file else {},
        derivatives=_named_paths(options.derivatives),
        database_dir=options.bids_database_dir,
        validate=not options.skip_bids_validation,
    )


def read_method(options: argparse.Namespace) -> MethodConfig:
    """Return which networks find the lesions."""
    method = options.method
    # The steps run in folders of their own.
    absolute = str(Path(method).resolve()) if method.endswith(".json") else method
    return MethodConfig(
        absolute,
        options.separate_lesions,
        options.tta,
        options.threshold,
        options.min_lesion_mm3,
    )


def read_plugin_file(options: argparse.Namespace) -> Mapping[str, Any] | None:
    """Read the file of ``--use-plugin``; None without one."""
    if options.use_plugin is None:
        return None
    if options.work_dir is None:
        raise UsageError("--use-plugin needs a --work-dir, in a folder that all nodes see")
    from cascade_bids.workflows.execution import read_plugin

    return read_plugin(options.use_plugin)


def participant_config(
    options: argparse.Namespace, output_dir: Path, inputs: InputConfig, spaces: tuple[str, ...]
) -> ParticipantConfig:
    """Return the config of a run."""
    plugin = read_plugin_file(options)
    given = (plugin or {}).get("plugin_args", {}).get("n_procs")
    nprocs = options.nprocs or given or usable_cores()
    return ParticipantConfig(
        output_dir=output_dir,
        inputs=inputs,
        preprocess=PreprocessConfig(options.skull_strip, options.random_seed, spaces),
        method=read_method(options),
        resources=ResourceConfig(
            work_dir=options.work_dir and options.work_dir.resolve(),
            clean_work_dir=options.clean_workdir,
            device=options.device,
            precision=options.precision,
            nprocs=nprocs,
            omp_nthreads=options.omp_nthreads or 0,
            mem_gb=options.mem,
            stop_on_first_crash=options.stop_on_first_crash,
            plugin=plugin,
        ),
        longitudinal=getattr(options, "longitudinal", "off") == "on",
        min_change_mm3=getattr(options, "min_change_mm3", ParticipantConfig.min_change_mm3),
    )


def print_outcomes(outcomes: "Sequence[Outcome]", output_dir: Path) -> int:
    """Print the closing table; return the exit code."""
    from rich.console import Console
    from rich.table import Table

    columns = ("scan", "result", "quality", "load (ml)", "lesions")
    table = Table(*columns, title=f"cascade_bids {VERSION}")
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    for outcome in outcomes:
        result, stats = "FAILED" if outcome.problem else "complete", outcome.stats
        numbers = ("", "", "")
        if stats is not None and not outcome.is_earlier:
            numbers = (_verdict(stats), f"{stats['load_ml']:.2f}", str(stats["count"]))
        table.add_row(outcome.scan.label, result, *numbers)
    console = Console()
    console.print(table)
    for outcome in outcomes:
        for sentence in _doubts(outcome):
            print(f"{outcome.scan.label}: {sentence}")
    for outcome in failed:
        print(f"{outcome.scan.label} {outcome.cause}")
        if outcome.is_earlier:
            print(f"{outcome.scan.label}: the result of an earlier run stays in place")
    uncompared = {f"sub-{one.scan.subject}": one.uncompared for one in outcomes if one.uncompared}
    for participant, cause in uncompared.items():
        print(f"{participant}: the sessions were not compared: {cause}")
    print(f"{len(outcomes) - len(failed)} complete, {len(failed)} failed; results in {output_dir}")
    return 1 if failed or uncompared else 0


def _doubts(outcome: "Outcome") -> list[str]:
    """Return the reasons of a verdict, if any, and the warnings, which may tell their cause."""
    if outcome.stats is None or outcome.is_earlier:
        return []
    reasons: list[str] = outcome.stats.get("quality", {}).get("reasons", [])
    return [*reasons, *outcome.stats.get("warnings", [])] if reasons else []


def _verdict(stats: Mapping[str, Any]) -> str:
    """Return the verdict on the quality of a scan, if it has one."""
    return str(stats.get("quality", {}).get("verdict", "n/a"))


def _named_paths(pairs: Sequence[str]) -> dict[str, Path]:
    named = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not (name and separator and path):
            raise UsageError(f"--derivatives {pair}: write NAME=PATH, e.g. fmriprep=/data/fmriprep")
        named[name] = Path(path).resolve()
    return named
