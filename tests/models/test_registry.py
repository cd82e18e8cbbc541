"""Cards name networks, and every file of networks is known without being listed anywhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from cascade_bids.models import architectures
from cascade_bids.models.architectures.perceptron import GaussianDerivativePerceptron
from cascade_bids.models.architectures.unet import UNet
from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.registry import ARCHITECTURES, Architecture, find_architecture, register


def test_cards_build_networks_by_name():
    unet = find_architecture("UNet").create(channels_in=1, widths=[2, 3])
    assert isinstance(unet, UNet)
    assert unet.arguments == {"channels_in": 1, "widths": [2, 3]}
    network = find_architecture("PatchNetwork").create(channels_in=2)
    assert isinstance(network, Valverde2017Network)
    assert network.arguments == {"channels_in": 2}


def test_cards_keep_the_names_that_networks_had():
    """Cards of earlier versions must load."""
    assert find_architecture("JetNetwork") is GaussianDerivativePerceptron
    assert find_architecture("PatchNetwork") is Valverde2017Network
    assert GaussianDerivativePerceptron.card_name == "JetNetwork"
    with pytest.raises(KeyError):
        find_architecture("Valverde2017Network")


def test_every_architecture_is_found_in_a_new_process():
    find_architecture("UNet")
    code = (
        "from cascade_bids.models.registry import ARCHITECTURES, find_architecture\n"
        "assert not ARCHITECTURES\n"
        "find_architecture('UNet')\n"
        "print(*sorted(ARCHITECTURES))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    names = found.stdout.split()
    # Tests may have registered further ones in this process.
    ours = (n for n, one in ARCHITECTURES.items() if one.__module__.startswith("cascade_bids."))
    assert names == sorted(ours)
    files = {Path(path).stem for path in Path(architectures.__path__[0]).glob("*.py")}
    with_networks = {ARCHITECTURES[name].__module__.rsplit(".", 1)[-1] for name in names}
    # The others hold what networks are made of.
    helpers = {"__init__", "gaussian_derivatives", "losses", "patch_classifier"}
    assert files - helpers == with_networks


def test_a_decorator_makes_a_network_known(monkeypatch):
    monkeypatch.setattr("cascade_bids.models.registry.ARCHITECTURES", known := {})
    network = register("Tiny")(type("TinyNetwork", (Architecture,), {}))
    assert known == {"Tiny": network}
    assert network.card_name == "Tiny"
