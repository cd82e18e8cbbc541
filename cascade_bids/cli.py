"""The command line: argv to a frozen config, one call, an exit code."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from cascade_bids.arguments.app import (
    bids_app_parser,
    compare_parser,
    evaluate_parser,
    phantom_parser,
    segment_parser,
)
from cascade_bids.arguments.training import (
    crossval_parser,
    finetune_parser,
    import_parser,
    preview_parser,
    train_brain_parser,
    train_parser,
)
from cascade_bids.config import (
    CONTRASTS,
    VERSION,
    InputConfig,
    MethodConfig,
    ParticipantConfig,
    PreprocessConfig,
    ResourceConfig,
)
from cascade_bids.errors import CascadeBidsError, UsageError

if TYPE_CHECKING:
    from cascade_bids.batch import Outcome
    from cascade_bids.training.train import TrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments ask for.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process when None.

    Returns
    -------
    int
        0 when all went well, 1 when a scan failed, 2 for wrong use, 70 when nothing could start.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        make_parser, run = COMMANDS[arguments.pop(0)]
        options = make_parser().parse_args(arguments)
    else:
        run = _run_bids_app
        options = bids_app_parser(COMMANDS).parse_args(arguments)
    _prepare_process(options.verbose)
    try:
        code = run(options)
    except CascadeBidsError as error:
        print(f"cascade-bids: error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print(
            "cascade-bids: interrupted; run again, with the same --work-dir to go on from here",
            file=sys.stderr,
        )
        code = 130
    return code


def console() -> None:
    """Run `main` as the installed command ``cascade-bids``."""
    sys.exit(main())


def _prepare_process(verbose: int) -> None:
    """Set what libraries read from the environment when they are imported or start a process."""
    # Registration repeats to the bit only with one thread; parallelism is across steps.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    # Nipype would ask the network for its newest version.
    os.environ["NO_ET"] = "1"
    # Its settings come with the package, so that a read-only home does no harm.
    os.environ["NIPYPE_CONFIG_DIR"] = str(files("cascade_bids") / "data" / "nipype")
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cascade_bids").setLevel(level)
    # What a training tells now and then shall be seen without -v, and the rest with it.
    progress = logging.getLogger("cascade_bids.training.progress")
    progress.setLevel(max(level - 10, logging.DEBUG))


def _run_bids_app(options: argparse.Namespace) -> int:
    bids_dir, output_dir = options.bids_dir.resolve(), options.output_dir.resolve()
    if options.level == "group":
        from cascade_bids.group import run_group

        print(run_group(output_dir))
        return 0
    for name, folder in _written_folders(options.output_dir, options.work_dir).items():
        _require_outside(name, folder, bids_dir)
    from cascade_bids.batch import run_participants
    from cascade_bids.bids.inputs import load_filters

    inputs = InputConfig(
        bids_dir=bids_dir,
        participant_labels=tuple(options.participant_label),
        session_labels=tuple(options.session_label),
        filters=load_filters(options.bids_filter_file) if options.bids_filter_file else {},
        derivatives=_named_paths(options.derivatives),
        database_dir=options.bids_database_dir,
        validate=not options.skip_bids_validation,
    )
    config = _participant_config(options, output_dir, inputs, tuple(options.output_spaces))
    return _tell_outcomes(run_participants(config), output_dir)


def _run_segment(options: argparse.Namespace) -> int:
    from cascade_bids.batch import run_scans
    from cascade_bids.bids.scan import patient_scan

    others = {c: getattr(options, c) for c in CONTRASTS[1:] if getattr(options, c) is not None}
    scan = patient_scan(options.FLAIR, others)
    output_dir = _written_folders(options.out, options.work_dir)["output_dir"]
    inputs = InputConfig(bids_dir=options.FLAIR.resolve().parent)
    config = _participant_config(options, output_dir, inputs, ())
    return _tell_outcomes(run_scans([scan], config), output_dir)


def _written_folders(output_dir: Path, work_dir: Path | None) -> dict[str, Path]:
    """Resolve the folders that a run writes to, which need not exist but must be possible."""
    folders = {"output_dir": output_dir.resolve()}
    if work_dir is not None:
        folders["--work-dir"] = work_dir.resolve()
    for name, folder in folders.items():
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
            raise UsageError(f"{name} {folder}: {nearest} is no folder that can be written to")
    return folders


def _require_outside(name: str, folder: Path, dataset: Path) -> None:
    if folder.is_relative_to(dataset):
        raise UsageError(
            f"{name} {folder} lies inside the input, which is never written to; "
            "choose a folder outside it"
        )


def _participant_config(
    options: argparse.Namespace, output_dir: Path, inputs: InputConfig, spaces: tuple[str, ...]
) -> ParticipantConfig:
    return ParticipantConfig(
        output_dir=output_dir,
        inputs=inputs,
        preprocess=PreprocessConfig(options.skull_strip, options.random_seed, spaces),
        method=MethodConfig(_absolute_card(options.method), options.separate_lesions, options.tta),
        resources=ResourceConfig(
            work_dir=options.work_dir and options.work_dir.resolve(),
            clean_work_dir=options.clean_workdir,
            device=options.device,
            nprocs=options.nprocs,
            omp_nthreads=options.omp_nthreads or options.nprocs,
            stop_on_first_crash=options.stop_on_first_crash,
        ),
    )


def _absolute_card(method: str) -> str:
    """Make the path of a card absolute, since the steps run in folders of their own."""
    return str(Path(method).resolve()) if method.endswith(".json") else method


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


def _run_phantom(options: argparse.Namespace) -> int:
    from cascade_bids.phantom import write_phantom

    for scan in write_phantom(options.out, seed=options.random_seed):
        print(f"{scan.label}: {len(scan.lesions)} lesions, {scan.load_ml:.2f} ml")
    return 0


def _run_compare(options: argparse.Namespace) -> int:
    from cascade_bids.phantom import compare_loads

    print(compare_loads(options.bids_dir, options.output_dir).round(3).to_string(index=False))
    return 0


def _run_evaluate(options: argparse.Namespace) -> int:
    out = _written_folders(options.out, None)["output_dir"]
    for dataset in filter(None, (options.prediction, options.reference, options.compare)):
        _require_outside("--out", out, dataset.resolve())
    return _evaluate(options.prediction, options.reference, out, options.compare)


def _evaluate(prediction: Path, reference: Path, out: Path, other: Path | None = None) -> int:
    """Score masks, print the means, and give the exit code."""
    from rich.console import Console
    from rich.table import Table

    from cascade_bids.evaluation import evaluate

    result = evaluate(prediction, reference, out, other=other)
    table = Table("mean over the scans", *result.cohort["predictions"])
    for measure in ("dsc", "ltpr", "lfpr", "lf1", "hd95_mm", "isbi2015_score", "miccai2008_score"):
        means = (p["measures"][measure]["mean"] for p in result.cohort["predictions"].values())
        table.add_row(measure, *("n/a" if mean is None else f"{mean:.3f}" for mean in means))
    Console().print(table)
    for failure in result.failures:
        print(failure)
    print(f"{len(result.table)} scored, {len(result.failures)} failed; results in {out}")
    return 1 if result.failures else 0


def _run_train(options: argparse.Namespace) -> int:
    from cascade_bids.training.train import train_method

    name = options.name or options.method
    config = _train_config(options, options.method, options.contrasts)
    print(train_method(config, name, options.out))
    return 0


def _run_crossval(options: argparse.Namespace) -> int:
    from cascade_bids.training.crossval import cross_validate

    config = _train_config(options, options.method, options.contrasts)
    out = options.out.resolve()
    predictions, references = cross_validate(config, options.folds, out)
    return _evaluate(predictions, references, out)


def _run_finetune(options: argparse.Namespace) -> int:
    from cascade_bids.network.weights import FIND_LESIONS, load_card
    from cascade_bids.training.finetune import finetune

    card = load_card(options.source, task=FIND_LESIONS)
    config = _train_config(options, card["name"], card["contrasts"])
    print(finetune(config, options.source, options.name, options.out))
    return 0


def _run_preview(options: argparse.Namespace) -> int:
    from cascade_bids.training.preview import preview

    config = _train_config(options, options.method, options.contrasts)
    print(preview(config, options.samples, options.out))
    return 0


def _train_config(
    options: argparse.Namespace, method: str, contrasts: Sequence[str]
) -> "TrainConfig":
    from cascade_bids.training.train import TrainConfig

    _require_different(contrasts)
    for name, folder in _written_folders(options.out, options.work_dir).items():
        for read in filter(None, (options.dataset, options.masks)):
            _require_outside(name, folder, read.resolve())
    return TrainConfig(
        inputs=InputConfig(
            bids_dir=options.dataset.resolve(),
            participant_labels=tuple(options.participant_label),
            session_labels=tuple(options.session_label),
            validate=False,
        ),
        method=method,
        contrasts=tuple(contrasts),
        masks_dir=options.masks and options.masks.resolve(),
        preprocess=PreprocessConfig(options.skull_strip, options.random_seed),
        resources=ResourceConfig(
            device=options.device,
            nprocs=options.nprocs,
            omp_nthreads=options.omp_nthreads or options.nprocs,
        ),
        work_dir=options.work_dir.resolve(),
        max_minutes=options.max_minutes,
        seeds=getattr(options, "seeds", None),
        heads_dir=options.heads.resolve() if getattr(options, "heads", None) else None,
        start_from=getattr(options, "start_from", None),
    )


def _require_different(contrasts: Sequence[str]) -> None:
    twice = {contrast for contrast in contrasts if list(contrasts).count(contrast) > 1}
    if twice:
        raise UsageError(f"--contrasts names {', '.join(sorted(twice))} twice")


def _run_import(options: argparse.Namespace) -> int:
    from cascade_bids.network.imports import import_nicmslesions
    from cascade_bids.network.weights import WEIGHTS_DIR

    _require_different(options.contrasts)
    print(
        import_nicmslesions(
            options.model_dir,
            options.name,
            options.out or WEIGHTS_DIR,
            contrasts=options.contrasts,
        )
    )
    return 0


def _run_train_brain(options: argparse.Namespace) -> int:
    from cascade_bids.training.brain import train_brain

    card = train_brain(
        options.scans,
        options.head_labels,
        options.out,
        work_dir=options.work_dir,
        seed=options.random_seed,
    )
    print(card)
    return 0


def _named_paths(pairs: Sequence[str]) -> dict[str, Path]:
    named = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not (name and separator and path):
            raise UsageError(f"--derivatives {pair}: write NAME=PATH, e.g. fmriprep=/data/fmriprep")
        named[name] = Path(path).resolve()
    return named


COMMANDS: dict[
    str, tuple[Callable[[], argparse.ArgumentParser], Callable[[argparse.Namespace], int]]
] = {
    "segment": (segment_parser, _run_segment),
    "train": (train_parser, _run_train),
    "crossval": (crossval_parser, _run_crossval),
    "finetune": (finetune_parser, _run_finetune),
    "preview-training": (preview_parser, _run_preview),
    "import-nicmslesions": (import_parser, _run_import),
    "train-brain": (train_brain_parser, _run_train_brain),
    "phantom": (phantom_parser, _run_phantom),
    "compare-loads": (compare_parser, _run_compare),
    "evaluate": (evaluate_parser, _run_evaluate),
}
"""Commands beside the BIDS App: what they understand and what they do."""
