"""Time a training step of `cascade`, beside the same network in float32 and one that normalises.

Usage: python benchmarks/training_step.py [--repeats N] [--threads N]

The steps run in turn on the same crops: forward, loss, backward, optimiser. Prints the median
seconds of each, what of it is convolution by counting (TFLOP/s), and the ratio to the plain step, a
U-Net with instance norm in float32 whose layers hold about as many operations.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cascade_bids.models.architectures.cascade import WINDOW, CascadeUNet, cascade_loss
from cascade_bids.models.architectures.unet import UNet
from cascade_bids.models.device import choose_precision, compute_in
from cascade_bids.training.recipes import RECIPES

CONTRASTS = 3
PLAIN_WIDTHS = (12, 24, 48, 96)
"""Of the plain U-Net, at 1 mm: about as many operations as `cascade` has from 2 mm on."""


def make_step(
    network: nn.Module, precision: str, batch: tuple[Tensor, Tensor]
) -> Callable[[], None]:
    """Return a function that makes one training step."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    inputs, target = batch

    def step() -> None:
        with compute_in(precision):
            logits = network(inputs)
        cascade_loss(logits.float(), target).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size = (RECIPES["cascade"].batch_size, CONTRASTS + 1, *WINDOW)
    lesions = (torch.rand(size[0], 1, *WINDOW) > 0.99).float()
    batch = torch.randn(size), torch.cat([lesions, torch.ones_like(lesions)], 1)
    fast = choose_precision("auto", "cpu")
    variants = {
        "plain: instance norm, float32": (UNet(CONTRASTS + 1, PLAIN_WIDTHS), "float32"),
        "cascade, float32": (CascadeUNet(CONTRASTS, cascaded=False), "float32"),
        f"cascade, {fast}": (CascadeUNet(CONTRASTS, cascaded=False), fast),
    }
    steps = {name: make_step(*of, batch) for name, of in variants.items()}
    operations = {}
    for name, step in steps.items():
        with FlopCounterMode(display=False) as counter:
            step()
        operations[name] = counter.get_total_flops()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.repeats):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    rate = {name: operations[name] / median[name] / 1e12 for name in steps}
    plain = next(iter(rate.values()))
    table = pd.DataFrame(
        {
            "seconds": median,
            "TFLOP": {name: count / 1e12 for name, count in operations.items()},
            "TFLOP/s": rate,
            "times the plain rate": {name: one / plain for name, one in rate.items()},
        }
    )
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
