"""The U-Net of both stages: whole brains and crops agree, and only candidates are lesions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cascade_bids.models.architectures.cascade import (
    CascadeUNet,
    _join_blocks,
    _split_blocks,
    cascade_loss,
)
from cascade_bids.models.network import Volume

WIDTHS = (8, 16, 16)


def make_network(*, cascaded=False, widths=WIDTHS, seed=0):
    """A network whose residual blocks have a part, as after a training."""
    torch.manual_seed(seed)
    network = CascadeUNet.create(channels_in=2, cascaded=cascaded, widths=list(widths))
    for name, parameter in network.named_parameters():
        if name.endswith("second.gain"):
            torch.nn.init.constant_(parameter, 0.3)
    torch.nn.init.normal_(network.head.weight, std=0.3)
    torch.nn.init.zeros_(network.head.bias)
    return network.eval()


def make_volume(shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    channels = torch.randn((2, *shape), generator=rng)
    brain = np.zeros(shape, bool)
    brain[1:-1, 1:-1, 1:-1] = True
    return Volume(channels * torch.from_numpy(brain), channels[0].numpy(), brain)


def test_blocks_come_together_as_they_were():
    values = torch.randn(2, 1, 4, 6, 8)
    assert torch.equal(_join_blocks(_split_blocks(values)), values)


def test_a_crop_and_a_whole_volume_give_the_same_values():
    network = make_network(widths=(8, 16))
    volume = make_volume((80, 80, 80))
    channels = torch.cat([volume.channels, torch.ones(1, 80, 80, 80)])[None]
    with torch.inference_mode():
        whole = network(channels)
        crop = network(channels[:, :, 8:72, 8:72, 8:72])
    # Beyond the reach of what lies outside the crop.
    torch.testing.assert_close(whole[..., 38:42, 38:42, 38:42], crop[..., 30:34, 30:34, 30:34])


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 30, 9)])
def test_only_candidates_may_be_lesions_in_volumes_of_any_shape(shape):
    volume = make_volume(shape)
    candidates = volume.brain.copy()
    candidates[: shape[0] // 2] = False
    found = make_network().predict(volume, candidates, np.zeros(shape, np.float32)).probability
    assert found.shape == shape
    assert found.dtype == np.float32
    assert (found[candidates] > 0).all()
    assert not found[~candidates].any()


def test_the_second_stage_sees_what_the_first_said():
    volume = make_volume((16, 16, 16))
    network = make_network(cascaded=True)
    nothing, something = np.zeros((2, 16, 16, 16), np.float32)
    something[4:8, 4:8, 4:8] = 1
    one, other = (
        network.predict(volume, volume.brain, previous).probability
        for previous in (nothing, something)
    )
    assert not np.allclose(one, other)


def test_the_second_stage_starts_as_the_first():
    first = make_network()
    data = SimpleNamespace(stage=2, start=None, previous=first)
    second = CascadeUNet.build(data, channels_in=2, widths=list(WIDTHS)).eval()
    inputs = torch.randn(1, 4, 16, 16, 16)
    with torch.inference_mode():
        before, after = first(inputs[:, :3]), second(inputs)
    assert second.cascaded
    assert np.corrcoef(before.flatten(), after.flatten())[0, 1] > 0.98


def test_an_untrained_network_keeps_the_size_of_its_features():
    torch.manual_seed(0)
    network = CascadeUNet.create(channels_in=2, cascaded=False)
    seen = {}
    for name, module in network.named_modules():
        if name.startswith(("first", "down.", "after.")) and name.count(".") <= 1:
            module.register_forward_hook(
                lambda module, inputs, output, name=name: seen.update({name: float(output.std())})
            )
    with torch.inference_mode():
        network(torch.randn(1, 3, 32, 32, 32))
    assert len(seen) == 7
    assert all(0.5 < size < 2 for size in seen.values()), seen


def test_what_does_not_count_has_no_part_in_the_loss():
    logits = torch.randn(2, 1, 8, 8, 8)
    share = torch.rand(2, 1, 8, 8, 8)
    counted = (torch.rand(2, 1, 8, 8, 8) > 0.5).float()
    before = cascade_loss(logits, torch.cat([share, counted], 1))
    changed = torch.where(counted > 0, logits, 9.0)
    assert cascade_loss(changed, torch.cat([share, counted], 1)) == before
    assert cascade_loss(-logits, torch.cat([share, counted], 1)) != before


def test_a_bright_ball_is_learned():
    torch.manual_seed(0)
    network = CascadeUNet.create(channels_in=1, cascaded=False, widths=[8, 16])
    x, y, z = torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    rng = torch.Generator().manual_seed(0)

    def draw():
        a, b, c = 4 + 8 * torch.rand(3, generator=rng)
        ball = ((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < 9).float()[None, None]
        image = 2 * ball + 0.5 * torch.randn(ball.shape, generator=rng)
        inputs = torch.cat([image, torch.ones_like(image)], 1)
        return inputs, torch.cat([ball, torch.ones_like(ball)], 1)

    for _ in range(60):
        inputs, target = draw()
        optimiser.zero_grad()
        cascade_loss(network(inputs), target).backward()
        optimiser.step()
    inputs, target = draw()
    found = network(inputs) > 0
    truth = target[:, :1] > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8
