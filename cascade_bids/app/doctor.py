"""Check an installation, to set it up or to report a problem."""

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
"""Packages of which the versions are reported."""

NEEDED_GB = 4.0
"""Peak memory of one scan, GB, with some reserve."""


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    what: str
    """What was checked."""
    is_well: bool
    """Whether it is sufficient for a run."""
    found: str
    """What was found, or what is wrong."""


def examine() -> list[Finding]:
    """Check everything that a run needs; only a temporary file is written.

    Returns
    -------
    list of Finding
        In the order of the report.
    """
    # Including cards that are missing. They are found without torch, which may be broken.
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
    return [_run_check(what, check) for what, check in checks.items()]


def _run_check(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except Exception as error:  # any error is a finding
        return Finding(what, False, f"{type(error).__name__}: {error}")


def _describe_installation() -> str:
    return f"cascade_bids {VERSION}, Python {platform.python_version()}, {platform.platform()}"


def _describe_packages() -> str:
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def _describe_device() -> str:
    from cascade_bids.models.device import describe_device

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
    from cascade_bids.preprocess.template import network_grid

    network_grid()
    load_atlas()
    return "can be read"


def _check_weights(name: str) -> str:
    from cascade_bids.models.card import load_model_card
    from cascade_bids.models.weights import check_weights

    check_weights(load_model_card(name))
    return "are those of their card"
