"""Label maps become heads of any contrast."""

import numpy as np
import pytest
import torch

from cascade_bids.training.synthesis.random_contrast import (
    FLAIR_LIKE,
    T1W_LIKE,
    TISSUE_OF_LABEL,
    flair_from_t1w,
    random_contrast,
)

LABELS = (0, 2, 3, 4, 507, 515)


@pytest.fixture(scope="module")
def labels():
    """Blocks of air, white, grey, fluid, scalp and skull."""
    return torch.tensor(LABELS, dtype=torch.int16).repeat_interleave(400).reshape(24, 10, 10)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def means(labels, seed):
    image = random_contrast(labels, generator(seed))
    return [float(image[labels == label].mean()) for label in LABELS]


def test_images_follow_their_seed(labels):
    one, again, other = (random_contrast(labels, generator(seed)) for seed in (1, 1, 2))
    assert one.shape == labels.shape
    assert one.dtype == torch.float32
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("seed", range(8))
def test_air_stays_dark_and_nothing_is_negative(labels, seed):
    image = random_contrast(labels, generator(seed))
    assert not image[labels == 0].any()
    assert image.min() >= 0
    assert image.max() < 1.6


def test_contrasts_come_as_often_as_promised(labels):
    """Half of the brains are like a FLAIR, a sixth like a T1w, and the rest is like anything."""
    inside = slice(1, 4)
    priors = [
        np.array([prior[t] for t in ("white", "grey", "csf")]) for prior in (FLAIR_LIKE, T1W_LIKE)
    ]
    found = np.array([means(labels, seed) for seed in range(300)])
    near = [(np.abs(found[:, inside] - prior).max(axis=1) < 0.17).mean() for prior in priors]
    assert near[0] == pytest.approx(1 / 2, abs=0.08)
    assert near[1] == pytest.approx(1 / 6, abs=0.06)
    assert found[:, 1:].std(axis=0).min() > 0.13


def test_a_label_outside_the_brain_is_a_mixture():
    """One label stands for fat and muscle; grey matter is one tissue."""

    def spread(label):
        block = torch.full((48, 48, 48), label, dtype=torch.int16)
        return np.mean([float(random_contrast(block, generator(seed)).std()) for seed in range(20)])

    assert spread(507) > 2 * spread(3)


@pytest.fixture(scope="module")
def t1w():
    """Blocks of air, fluid, grey and white matter, fluid again, bone, muscle and fat."""
    blocks = torch.tensor([0, 0.1, 0.42, 0.6, 0.1, 0.05, 0.3, 1.0])
    values = blocks.repeat_interleave(400).reshape(32, 10, 10)
    brain = torch.zeros(values.shape, dtype=torch.bool)
    brain[4:16] = True
    return values, brain


@pytest.mark.parametrize("seed", range(8))
def test_a_t1w_becomes_like_a_flair(t1w, seed):
    image, brain = t1w
    found = flair_from_t1w(image, brain, generator(seed))
    assert found.shape == image.shape
    assert found.dtype == torch.float32
    means = (float(part.mean()) for part in found.split(4))
    air, fluid, grey, white, _, bone, muscle, fat = means
    assert air == 0
    assert fluid < white < grey
    assert bone < muscle < fat
    assert torch.equal(found, flair_from_t1w(image, brain, generator(seed)))


def test_no_edge_shows_where_the_brain_ends(t1w):
    """The fluid beside the brain looks as that within it does, or the edge would give it away."""
    image, brain = t1w
    for seed in range(8):
        found = flair_from_t1w(image, brain, generator(seed))
        torch.testing.assert_close(found[16], found[4])


def test_a_head_without_brain_stays_as_it_is(t1w):
    image, brain = t1w
    assert torch.equal(flair_from_t1w(image, torch.zeros_like(brain), generator(0)), image)


def test_no_label_belongs_to_two_tissues():
    listed = [label for members in TISSUE_OF_LABEL.values() for label in members]
    assert len(listed) == len(set(listed))
    assert set(TISSUE_OF_LABEL) == set(FLAIR_LIKE) == set(T1W_LIKE)
