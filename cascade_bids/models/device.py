"""Where networks run."""

import torch

from cascade_bids.errors import UsageError


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
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("--device cuda: PyTorch sees no GPU here; use --device cpu")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def describe_device() -> str:
    """Return the name of the GPU that runs would use, or that there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
