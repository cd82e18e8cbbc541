"""Options of trainings, and the config that they make."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cascade_bids.cli.folders import require_outside, written_folders
from cascade_bids.cli.options import (
    RenamedOption,
    add_choice,
    add_machine,
    add_out,
    add_preparation,
    minutes,
    positive,
)
from cascade_bids.config import (
    CONTRASTS,
    InputConfig,
    PreprocessConfig,
    ResourceConfig,
)
from cascade_bids.errors import UsageError

if TYPE_CHECKING:
    from cascade_bids.training.config import TrainConfig
    from cascade_bids.training.data.datasets import LabelledDataset


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add the options of a training on labelled scans."""
    how = add_labelled(parser)
    how.add_argument("--method", default="cascade", help="(default: %(default)s)")
    how.add_argument(
        "--contrasts",
        nargs="+",
        choices=CONTRASTS,
        default=["FLAIR", "T1w"],
        metavar="CONTRAST",
        help="channels, in this order (default: FLAIR T1w)",
    )
    how.add_argument(
        "--seeds",
        type=positive,
        metavar="N",
        help="how many networks vote, where they do",
    )
    how.add_argument(
        "--label-maps",
        type=Path,
        metavar="DIR",
        help="head*_dseg.nii.gz, to make synthetic scans from",
    )
    how.add_argument(
        "--heads",
        dest="label_maps",
        type=Path,
        action=RenamedOption,
        help=argparse.SUPPRESS,
    )
    how.add_argument(
        "--healthy",
        type=Path,
        metavar="DIR",
        help="T1w with MUSE labels, to paint lesions into",
    )
    how.add_argument(
        "--unlabelled",
        type=Path,
        metavar="DIR",
        help="raw scans without lesion masks, to learn from too",
    )
    how.add_argument(
        "--start-from",
        metavar="METHOD",
        help="name or card whose weights to start with",
    )


def add_labelled(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add which labelled scans are learned from, and how long; return the group for more."""
    parser.add_argument(
        "datasets",
        type=Path,
        nargs="+",
        metavar="dataset",
        help="BIDS dataset of images and lesion masks, or our derivatives",
    )
    add_out(parser, "where new files go")
    parser.add_argument(
        "--masks",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folder of sub-…_label-lesion_mask.nii.gz for each dataset (default: the dataset)",
    )
    add_choice(parser)
    how = parser.add_argument_group("how")
    how.add_argument(
        "--max-minutes",
        type=minutes,
        metavar="N",
        help="for all networks of a fold (default: as the recipe)",
    )
    add_preparation(how)
    add_work_dir(add_machine(parser))
    return how


def add_work_dir(parser: argparse._ActionsContainer) -> None:
    """Add where checkpoints are kept."""
    parser.add_argument(
        "-w",
        "--work-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="checkpoints and curves; go on where a training broke off",
    )


def require_different(contrasts: Sequence[str]) -> None:
    """Refuse a contrast that is named twice."""
    twice = {contrast for contrast in contrasts if list(contrasts).count(contrast) > 1}
    if twice:
        raise UsageError(f"--contrasts names {', '.join(sorted(twice))} twice")


def train_config(
    options: argparse.Namespace, method: str, contrasts: Sequence[str]
) -> "TrainConfig":
    """Return the config of a training; ``finetune`` has fewer options than the others."""
    from cascade_bids.models.card import load_card
    from cascade_bids.training.config import TrainConfig

    require_different(contrasts)
    label_maps, healthy, unlabelled = (
        folder and folder.resolve()
        for folder in (
            getattr(options, name, None) for name in ("label_maps", "healthy", "unlabelled")
        )
    )
    for name, folder in written_folders(options.out, options.work_dir).items():
        read = (*options.datasets, *options.masks, label_maps, healthy, unlabelled)
        for path in filter(None, read):
            require_outside(name, folder, path.resolve())
    start_from = getattr(options, "start_from", None)
    return TrainConfig(
        datasets=_labelled_datasets(options),
        method=method,
        contrasts=tuple(contrasts),
        preprocess=PreprocessConfig(options.skull_strip, options.random_seed),
        resources=ResourceConfig(
            device=options.device,
            nprocs=options.nprocs,
            omp_nthreads=options.omp_nthreads or options.nprocs,
        ),
        work_dir=options.work_dir.resolve(),
        max_minutes=options.max_minutes,
        seeds=getattr(options, "seeds", None),
        label_maps_dir=label_maps,
        start_from=load_card(start_from) if start_from else None,
        unlabelled_dir=unlabelled,
        healthy_dir=healthy,
    )


def _labelled_datasets(options: argparse.Namespace) -> tuple["LabelledDataset", ...]:
    """Return the datasets, each with its masks and with those participants that were named."""
    from cascade_bids.training.data.datasets import LabelledDataset

    folders = [_keep_name(path) for path in options.datasets]
    names = [folder.name for folder in folders]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(
            f"two datasets have the name {min(twice)}, which tells their participants apart; "
            "rename a folder, or make a link of another name and give that"
        )
    masks = [path.resolve() for path in options.masks] or folders
    if len(masks) != len(folders):
        raise UsageError(f"--masks: give one folder for each of the {len(folders)} datasets")
    chosen = _choose_participants(names, options.participant_label)
    return tuple(
        LabelledDataset(
            InputConfig(
                bids_dir=folder,
                participant_labels=chosen[folder.name],
                session_labels=tuple(options.session_label),
                validate=False,
            ),
            mask,
        )
        for folder, mask in zip(folders, masks, strict=True)
        if chosen[folder.name] or not options.participant_label
    )


def _keep_name(path: Path) -> Path:
    """Return a path from the root on; a link keeps its own name."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def _choose_participants(
    datasets: Sequence[str], labels: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the labels that were named of each dataset, ``LABEL`` of one or ``DATASET/LABEL``."""
    chosen: dict[str, list[str]] = {name: [] for name in datasets}
    for label in labels:
        dataset, _, own = label.rpartition("/")
        if not dataset and len(datasets) == 1:
            dataset = datasets[0]
        if dataset not in chosen:
            raise UsageError(
                f"--participant-label {label}: give DATASET/LABEL, with one of the datasets "
                f"{', '.join(datasets)}"
            )
        chosen[dataset].append(own)
    return {name: tuple(found) for name, found in chosen.items()}
