"""Where networks run, and how precisely."""

from contextlib import AbstractContextManager

import torch

from cascade_bids.errors import UsageError

FLOAT32 = "float32"
"""The precision of networks unless `choose_precision` says otherwise."""


def prepare_device(name: str, threads: int) -> torch.device:
    """Choose the device and make it give the same result every time.

    Parameters
    ----------
    name
        ``cpu``, ``cuda`` or ``auto`` (a GPU where there is one).
    threads
        Threads of the CPU.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    UsageError
        When a GPU is wanted and there is none.
    """
    torch.set_num_threads(threads)
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda" if is_gpu_wanted(name) else "cpu")


def choose_precision(name: str, device: str) -> str:
    """Choose how precisely convolutions run.

    Processors that multiply bfloat16 take about half the time for it. What AMX and AVX512 give
    differs by rounding, so the name says which of them runs.

    Parameters
    ----------
    name
        ``float32``, or ``auto``: bfloat16 where the processor has instructions for it.
    device
        As of `prepare_device`; a GPU always gets `FLOAT32`.

    Returns
    -------
    str
        `FLOAT32`, ``bfloat16 (AMX)`` or ``bfloat16 (AVX512)``.
    """
    if name == "auto" and not is_gpu_wanted(device):
        if torch.cpu._is_amx_tile_supported():
            return "bfloat16 (AMX)"
        if torch.cpu._is_avx512_bf16_supported():
            return "bfloat16 (AVX512)"
    return FLOAT32


def compute_in(precision: str) -> AbstractContextManager[None]:
    """Return a context in which convolutions on the CPU have a precision of `choose_precision`.

    In bfloat16, what is added up still is in float32, as are the statistics of instance norms.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=precision != FLOAT32)


def is_gpu_wanted(name: str) -> bool:
    """Return whether networks run on a GPU; `name` as of `prepare_device`."""
    return torch.cuda.is_available() and name != "cpu"


def describe_device() -> str:
    """Return the name of the GPU that runs would use, or that there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
