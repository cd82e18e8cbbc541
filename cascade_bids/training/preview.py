"""A sheet of training samples, to be looked at."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from cascade_bids.errors import UsageError
from cascade_bids.files import appearing
from cascade_bids.models.architectures.cascade import WINDOW, CascadeUNet
from cascade_bids.training.config import TrainConfig
from cascade_bids.training.fit.augmented_crops import AugmentedCrops
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.train import start_training

log = logging.getLogger(__name__)


def preview(config: TrainConfig, count: int, out_dir: Path) -> Path:
    """Draw what a method that learns from samples is shown.

    Parameters
    ----------
    config
        As of the training.
    count
        How many samples, from the seed on.
    out_dir
        Where ``samples.png`` goes.

    Returns
    -------
    Path
        The sheet.

    Raises
    ------
    UsageError
        When the method learns from scans as they are.
    StartError
        When a scan cannot be prepared.
    """
    recipe = config.find_recipe()
    cascade = issubclass(recipe.architecture, CascadeUNet)
    if not (cascade or recipe.learns_from_synthetic):
        raise UsageError(f"{config.method} learns from scans as they are; there is nothing to draw")
    _, cases, generator = start_training(config, recipe, source=config.start_from)
    seed = config.preprocess.random_seed
    painted = generator.painted if generator else ()
    crops = AugmentedCrops(cases, config.contrasts, WINDOW, seed, painted)
    samples = []
    for number in range(seed, seed + count):
        log.info("drawing sample %d", number)
        whole = None if cascade else generator
        shown = _draw_sample(whole, number) if whole else _show_crop(*crops[number])
        samples.append((str(number), shown))
    path = out_dir / "samples.png"
    draw_sheet(samples, config.contrasts, path)
    return path


class Shown(NamedTuple):
    """What is drawn of a sample."""

    channels: Tensor
    """(C, X, Y, Z) float32, z-scores."""
    brain: Tensor
    """(X, Y, Z) bool."""
    lesions: Tensor
    """(X, Y, Z) bool."""


def _draw_sample(generator: ScanGenerator, number: int) -> Shown:
    rng = torch.Generator().manual_seed(number)
    sample = generator.draw(rng, generator.kinds[number % len(generator.kinds)])
    return Shown(sample.channels, sample.brain, sample.lesions)


def _show_crop(inputs: Tensor, target: Tensor) -> Shown:
    return Shown(inputs[:-1], inputs[-1] > 0, target[0] >= 0.5)


def draw_sheet(samples: Sequence[tuple[str, Shown]], contrasts: Sequence[str], path: Path) -> None:
    """Draw two slices of each sample: every contrast, and FLAIR with the lesions outlined.

    Parameters
    ----------
    samples
        Name and sample.
    contrasts
        Of the channels.
    path
        PNG to write.
    """
    columns = 2 * (len(contrasts) + 1)
    figure = Figure(figsize=(1.6 * columns, 1.9 * len(samples)))
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(samples), columns, squeeze=False)
    for row, (name, sample) in zip(axes, samples, strict=True):
        lesions = sample.lesions.numpy()
        heights = _heights(lesions, sample.brain.numpy())
        flair = contrasts.index("FLAIR")
        for first, height in zip((0, columns // 2), heights, strict=True):
            for number, contrast in enumerate([*contrasts, "lesions"]):
                channel = flair if contrast == "lesions" else number
                ax = row[first + number]
                ax.imshow(
                    _slice(sample.channels[channel].numpy(), height), cmap="gray", vmin=-4, vmax=4
                )
                if contrast == "lesions":
                    outline = _slice(lesions, height)
                    if outline.any():
                        ax.contour(outline, levels=[0.5], colors="red", linewidths=0.6)
                ax.set_axis_off()
                ax.set_title(f"{name} {contrast}" if first + number == 0 else contrast, fontsize=7)
    figure.tight_layout(pad=0.2)
    with appearing(path) as part:
        figure.savefig(part, dpi=110)


def _heights(lesions: np.ndarray, brain: np.ndarray) -> tuple[int, int]:
    """Choose the slice with most lesion, and one lower in the brain."""
    rows = np.flatnonzero(brain.any(axis=(0, 1)))
    if not rows.size:
        # A crop may lie beside the brain.
        rows = np.arange(brain.shape[2])
    most = int(lesions.sum(axis=(0, 1)).argmax()) if lesions.any() else int(np.median(rows))
    return most, int(rows[0] + 0.3 * (rows[-1] - rows[0]))


def _slice(values: np.ndarray, height: int) -> np.ndarray:
    return np.flipud(values[:, :, height].T)
