"""Trainings, and the import of trained methods."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascade_bids.commands.evaluation import evaluate_masks
from cascade_bids.commands.folders import require_outside, written_folders
from cascade_bids.config import InputConfig, PreprocessConfig, ResourceConfig
from cascade_bids.errors import UsageError

if TYPE_CHECKING:
    from cascade_bids.training.config import TrainConfig


def run_train(options: argparse.Namespace) -> int:
    """Train a method."""
    from cascade_bids.training.train import train_method

    name = options.name or options.method
    config = _train_config(options, options.method, options.contrasts)
    print(train_method(config, name, options.out))
    return 0


def run_crossval(options: argparse.Namespace) -> int:
    """Cross-validate a method, and score what was left out."""
    from cascade_bids.training.crossval import cross_validate

    config = _train_config(options, options.method, options.contrasts)
    out = options.out.resolve()
    predictions, references = cross_validate(config, options.folds, out)
    return evaluate_masks(predictions, references, out)


def run_finetune(options: argparse.Namespace) -> int:
    """Adapt a method."""
    from cascade_bids.network.weights import FIND_LESIONS, load_card
    from cascade_bids.training.finetune import finetune

    card = load_card(options.source, task=FIND_LESIONS)
    config = _train_config(options, card["name"], card["contrasts"])
    print(finetune(config, options.source, options.name, options.out))
    return 0


def run_preview(options: argparse.Namespace) -> int:
    """Draw samples."""
    from cascade_bids.training.preview import preview

    config = _train_config(options, options.method, options.contrasts)
    print(preview(config, options.samples, options.out))
    return 0


def _train_config(
    options: argparse.Namespace, method: str, contrasts: Sequence[str]
) -> "TrainConfig":
    from cascade_bids.training.config import TrainConfig

    _require_different(contrasts)
    # finetune learns from labelled scans alone.
    heads, healthy, unlabelled = (
        folder and folder.resolve()
        for folder in (getattr(options, name, None) for name in ("heads", "healthy", "unlabelled"))
    )
    for name, folder in written_folders(options.out, options.work_dir).items():
        for read in filter(None, (options.dataset, options.masks, heads, healthy, unlabelled)):
            require_outside(name, folder, read.resolve())
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
        heads_dir=heads,
        start_from=getattr(options, "start_from", None),
        unlabelled_dir=unlabelled,
        healthy_dir=healthy,
    )


def _require_different(contrasts: Sequence[str]) -> None:
    twice = {contrast for contrast in contrasts if list(contrasts).count(contrast) > 1}
    if twice:
        raise UsageError(f"--contrasts names {', '.join(sorted(twice))} twice")


def run_import(options: argparse.Namespace) -> int:
    """Take over a model of nicMSlesions."""
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


def run_join(options: argparse.Namespace) -> int:
    """Make one method of several."""
    from cascade_bids.network.ensembles import join_methods

    print(join_methods(options.methods, options.name, options.out))
    print(
        "temperature, threshold and smallest lesion are those of the first; loads have no interval "
        "and lesions no confidence, since nobody calibrated the mean",
        file=sys.stderr,
    )
    return 0


def run_train_brain(options: argparse.Namespace) -> int:
    """Train the brain extraction."""
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


def run_train_context(options: argparse.Namespace) -> int:
    """Train the last network of cascade."""
    from cascade_bids.training.context import train_context

    for name, folder in written_folders(options.out, options.work_dir).items():
        for read in (options.heads, options.masks):
            require_outside(name, folder, read.resolve())
    card = train_context(
        options.heads.resolve(),
        options.masks.resolve(),
        options.out,
        work_dir=options.work_dir.resolve(),
        without=[label.removeprefix("sub-") for label in options.without],
        resources=ResourceConfig(
            device=options.device,
            nprocs=options.nprocs,
            omp_nthreads=options.omp_nthreads or options.nprocs,
        ),
        seed=options.random_seed,
    )
    print(card)
    return 0
