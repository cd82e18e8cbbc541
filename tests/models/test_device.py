"""The device is the one asked for, or the run does not start."""

import pytest
import torch

from cascade_bids.errors import UsageError
from cascade_bids.models.device import FLOAT32, choose_precision, compute_in, prepare_device


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


@pytest.mark.parametrize(
    ("name", "device", "gpu", "amx", "avx512", "chosen"),
    [
        ("auto", "cpu", False, True, True, "bfloat16 (AMX)"),
        ("auto", "auto", False, False, True, "bfloat16 (AVX512)"),
        ("auto", "cpu", True, False, True, "bfloat16 (AVX512)"),
        ("auto", "auto", True, True, True, "float32"),
        ("auto", "cpu", False, False, False, "float32"),
        ("float32", "cpu", False, True, True, "float32"),
    ],
)
def test_precision_follows_name_and_processor(monkeypatch, name, device, gpu, amx, avx512, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert choose_precision(name, device) == chosen


def test_pytorch_tells_what_the_processor_can_do():
    assert choose_precision("auto", "cpu") in (FLOAT32, "bfloat16 (AMX)", "bfloat16 (AVX512)")


def test_convolutions_are_as_precise_as_chosen():
    layer = torch.nn.Conv3d(1, 2, 3)
    image = torch.randn(1, 1, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    with compute_in(FLOAT32):
        exact = layer(image)
    with compute_in("bfloat16 (AVX512)"):
        rough = layer(image)
    assert (exact.dtype, rough.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(rough.float(), exact, rtol=0, atol=0.02)
