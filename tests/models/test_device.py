"""The device is the one asked for, or the run does not start."""

import pytest
import torch

from cascade_bids.errors import UsageError
from cascade_bids.models.device import prepare_device


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """What the function sets holds for the whole process, so it is put back."""
    threads = torch.get_num_threads()
    for name in ("benchmark", "deterministic"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "gpu", "chosen"),
    [
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_device_follows_name_and_machine(monkeypatch, name, gpu, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert prepare_device(name, 2).type == chosen
    assert torch.get_num_threads() == 2
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


def test_an_absent_gpu_is_no_reason_to_fall_back(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cuda: PyTorch sees no GPU here"):
        prepare_device("cuda", 1)
