"""Real scans are changed: labelled ones, and those whose lesions nobody outlined."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from cascade_bids.models.architectures.perceptron import GaussianDerivativePerceptron
from cascade_bids.models.network import CandidateRule
from cascade_bids.training.data.tissues import TISSUES
from cascade_bids.training.fit.voxels import choose_voxels
from cascade_bids.training.synthesis import painting, real_scans
from cascade_bids.training.synthesis.real_scans import change_scan, prepare_real

from ..tiny_anatomy import make_anatomy, make_donor

CONTRASTS = ("FLAIR", "T1w")
WHITE_PLACE = TISSUES.index("white")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(real_scans, "WINDOW", (48, 48, 48))


@pytest.fixture
def everyone_is_ill(monkeypatch):
    monkeypatch.setattr(painting, "HEALTHY", 0.0)


def rng(seed):
    return torch.Generator().manual_seed(seed)


def test_real_scans_get_further_lesions(scanned, everyone_is_ill):
    volumes = []
    for seed in range(8):
        sample = change_scan(scanned, [make_donor()], CONTRASTS, rng(seed))
        assert sample.channels.shape == (2, 48, 48, 48)
        assert not sample.channels[:, ~sample.brain].any()
        assert sample.coordinates.shape == (48, 48, 48, 3)
        volumes.append(int(sample.lesions.sum()))
    assert max(volumes) > 2 * int(scanned.case.lesions.sum())


@pytest.mark.parametrize(("cleared", "kept"), [(0.0, 1.0), (1.0, 0.0)])
def test_real_scans_keep_or_lose_their_lesions(scanned, monkeypatch, cleared, kept):
    monkeypatch.setattr(real_scans, "CLEARED", cleared)
    monkeypatch.setattr(real_scans, "KEPT", kept)
    for seed in range(4):
        sample = change_scan(scanned, [], CONTRASTS, rng(seed))
        assert sample.lesions.any() == bool(kept)


def test_where_lesions_were_cleared_there_is_white_matter(scanned):
    lesions = np.asarray(scanned.case.lesions)
    white = (np.asarray(scanned.tissues) == WHITE_PLACE) & ~lesions
    spread, cleared = np.asarray(scanned.spread), np.asarray(scanned.cleared)
    bright = np.where(lesions, spread + 5, spread)
    found = np.stack(
        [real_scans._clear(image, lesions, white, np.zeros_like(white)) for image in bright]
    )
    for image in found:
        assert abs(image[lesions].mean() - image[white].mean()) < 0.3
        assert 0.3 < image[lesions].std() / image[white].std() < 2
    far = ~ndimage.binary_dilation(lesions, iterations=8)
    np.testing.assert_allclose(cleared[:, far], spread[:, far], atol=1e-4)


def test_tissues_are_told_and_lesions_are_white_matter(scanned):
    found, truth = np.asarray(scanned.tissues), make_anatomy().tissues.numpy()
    for name in ("cortex", "white"):
        place = TISSUES.index(name)
        assert (found[truth == place] == place).mean() > 0.95
    assert (found[scanned.case.lesions] == WHITE_PLACE).all()


def test_the_contrasts_go_on_beyond_the_brain(scanned):
    brain = np.asarray(scanned.case.brain)
    assert (scanned.spread[:, ~brain] != 0).all()
    np.testing.assert_array_equal(scanned.spread[:, brain], scanned.case.channels.numpy()[:, brain])


def test_lesions_are_painted_beside_what_is_ignored(unlabelled, everyone_is_ill):
    everywhere = replace(unlabelled, ignore_mask=None)
    inside, free, elsewhere = 0, 0, 0
    for seed in range(8):
        sample = change_scan(unlabelled, [make_donor()], CONTRASTS, rng(seed))
        other = change_scan(everywhere, [make_donor()], CONTRASTS, rng(seed))
        inside += int((sample.lesions & sample.ignore).sum())
        free += int((other.lesions & sample.ignore).sum())
        elsewhere += int((sample.lesions & ~sample.ignore).sum())
    assert inside == 0
    assert free > 100
    assert elsewhere > 100


def test_nothing_is_learned_from_what_is_ignored(unlabelled):
    sample = change_scan(unlabelled, [], CONTRASTS, rng(0))
    describe, volume = GaussianDerivativePerceptron(2).describe_voxels, sample.to_volume(CONTRASTS)
    without, whole = (
        choose_voxels(describe, one, volume, CandidateRule(), [], rng(0)).target[:, 1].sum()
        for one in (sample, replace(sample, ignore=None))
    )
    ignored = (sample.ignore & sample.brain).sum()
    assert ignored > 0
    assert whole - without == pytest.approx(float(ignored), rel=1e-3)


def test_a_contrast_that_a_scan_lacks_is_missing(unlabelled):
    sample = change_scan(unlabelled, [], ("FLAIR", "T2w", "T1w"), rng(1))
    assert sample.channels.shape[0] == 3
    assert sample.channels[0].any()
    assert not sample.channels[1].any()


def test_a_scan_is_prepared_once_until_it_changes(scanned, monkeypatch):
    found = []
    clear = real_scans._clear
    monkeypatch.setattr(
        real_scans, "_clear", lambda *arguments: (found.append(1), clear(*arguments))[1]
    )
    prepare_real(scanned.case)
    assert not found
    np.save(scanned.case.folder / "lesions.npy", np.zeros_like(scanned.case.lesions))
    prepare_real(scanned.case)
    assert len(found) == len(scanned.case.contrasts)
    np.testing.assert_allclose(scanned.cleared, scanned.spread)
