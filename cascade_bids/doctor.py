"""Checks of an installation, for whoever sets one up or reports that it fails."""

import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from cascade_bids.config import VERSION, MethodConfig
from cascade_bids.machine import usable_cores, usable_memory

PACKAGES = ("torch", "antspyx", "nipype", "pybids", "nibabel", "numpy", "scipy")
"""Whose versions are told."""

NEEDED_GB = 4.0
"""Memory that one scan takes at its peak, with some room."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    """What was looked at."""
    is_well: bool
    """Whether a run can do with it."""
    found: str
    """What is there, or what is wrong."""


def examine() -> list[Finding]:
    """Look at all that a run needs; nothing is written but a temporary file.

    Returns
    -------
    list of Finding
        In the order in which they are told.
    """
    # Also those that should be there; and read without torch, which may be what is wrong.
    cards = Path(str(files("cascade_bids") / "data" / "weights")).glob("*.json")
    methods = sorted({"brain", MethodConfig().method, *(path.stem for path in cards)})
    checks: dict[str, Callable[[], str]] = {
        "installation": _describe_installation,
        "packages": _describe_packages,
        "device": _describe_device,
        "memory": _check_memory,
        "temporary files": _check_temporary,
        "template and atlas": _check_atlas,
        **{f"weights of {name}": partial(_check_weights, name) for name in methods},
    }
    return [_look(what, check) for what, check in checks.items()]


def _look(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except Exception as error:  # whatever is wrong is the finding
        return Finding(what, False, f"{type(error).__name__}: {error}")


def _describe_installation() -> str:
    return f"cascade_bids {VERSION}, Python {platform.python_version()}, {platform.platform()}"


def _describe_packages() -> str:
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def _describe_device() -> str:
    from cascade_bids.network.device import describe_device

    return f"{usable_cores()} cores, {describe_device()}"


def _check_memory() -> str:
    amount = usable_memory()
    if amount < NEEDED_GB * 1e9:
        raise MemoryError(f"{amount / 1e9:.1f} GB, where a scan needs {NEEDED_GB:.0f}")
    return f"{amount / 1e9:.1f} GB"


def _check_temporary() -> str:
    with tempfile.NamedTemporaryFile() as handle:
        return f"can be written in {Path(handle.name).parent}"


def _check_atlas() -> str:
    from cascade_bids.lesions.location import load_atlas
    from cascade_bids.preprocess.steps import network_grid

    network_grid()
    load_atlas()
    return "can be read"


def _check_weights(name: str) -> str:
    from cascade_bids.network.weights import check_weights

    check_weights(name)
    return "are those of their card"
