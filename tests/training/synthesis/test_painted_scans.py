"""Painted scans lie where real ones do, and hold nothing of anyone else."""

from dataclasses import replace

import numpy as np
import pytest

from cascade_bids.training.synthesis import generator, painted_scans, painting, real_scans
from cascade_bids.training.synthesis.generator import ScanGenerator
from cascade_bids.training.synthesis.painted_scans import paint_scans

from ..tiny_anatomy import SHAPE, make_anatomy, make_donor

CONTRASTS = ("FLAIR", "T1w")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module in (generator, real_scans):
        monkeypatch.setattr(module, "WINDOW", (48, 48, 48))
    monkeypatch.setattr(painting, "HEALTHY", 0.0)
    monkeypatch.setattr(painted_scans, "PER_SCAN", 4)


@pytest.fixture
def real(scanned):
    """The labelled scan of a participant of a dataset."""
    return replace(scanned, case=replace(scanned.case, source="here"))


def paint(real, tmp_path, donors, seed=0):
    whole = ScanGenerator(CONTRASTS, (make_anatomy(),), tuple(donors), (real,))
    return paint_scans(whole, [real.case], tmp_path / "painted", seed)


def test_scans_and_heads_get_lesions_on_the_grid_of_the_labelled_scans(real, tmp_path):
    found = paint(real, tmp_path, [make_donor("here/sub-2")])
    changed, made = (
        [case for case in found.painted if case.source == source]
        for source in ("here", "synthetic")
    )
    assert len(changed) == len(made) == 4
    for case in found.painted:
        assert case.contrasts == CONTRASTS
        assert case.channels.shape == (2, *SHAPE)
        inside = np.asarray(case.brain)
        assert not (np.asarray(case.lesions) & ~inside).any()
        middles = [np.argwhere(mask).mean(0) for mask in (inside, real.case.brain)]
        np.testing.assert_allclose(*middles, atol=4)
    for cases in (changed, made):
        assert any(case.lesions.any() for case in cases)
        assert len({case.lesions.tobytes() for case in cases}) > 1


def test_what_is_painted_goes_with_its_participant(real, tmp_path):
    found = paint(real, tmp_path, [make_donor("here/sub-2")])
    left = found.without({"here/sub-1"}).painted
    assert {case.source for case in left} == {"synthetic"}


def test_lesions_of_labelled_participants_are_not_painted(real, tmp_path):
    own, other = make_donor("here/sub-1"), make_donor("here/sub-2")
    assert paint(real, tmp_path, [own, other]).donors == (other,)
    assert paint(real, tmp_path, [own]).painted == ()


def test_what_the_folder_has_is_not_painted_again(real, tmp_path, monkeypatch):
    found = paint(real, tmp_path, [make_donor("a/sub-2")]).painted
    before, lost = [case.lesions.copy() for case in found], found[2]
    (lost.folder / "volume.npy").unlink()
    kept = painted_scans._keep
    again = []
    monkeypatch.setattr(
        painted_scans, "_keep", lambda case, *rest: (again.append(case), kept(case, *rest))
    )
    after = paint(real, tmp_path, [make_donor("a/sub-2")]).painted
    assert again == [lost]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other.lesions)
