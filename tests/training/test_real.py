"""Real scans are changed: labelled ones, and those whose lesions nobody outlined."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from cascade_bids.bids.scan import Scan
from cascade_bids.network.cascade import CandidateRule
from cascade_bids.network.evaluate import LesionMaps
from cascade_bids.network.jets import JetNetwork
from cascade_bids.preprocess.tissue import CSF, GREY, WHITE
from cascade_bids.training import cascade, engine, painting, real, unlabelled
from cascade_bids.training.cascade import train_stages
from cascade_bids.training.cases import Case, save_case
from cascade_bids.training.engine import Engine
from cascade_bids.training.real import change_scan, prepare_real
from cascade_bids.training.recipes import find_recipe
from cascade_bids.training.sample import Kind
from cascade_bids.training.samples import choose_voxels
from cascade_bids.training.tissues import TISSUES
from cascade_bids.training.unlabelled import (
    MANY_ML,
    MARGIN_MM,
    SUSPECTED,
    find_suspects,
    name_suspects,
)

from .tiny_engine import CENTRE, SHAPE, TO_TEMPLATE, make_donor, make_head

CONTRASTS = ("FLAIR", "T1w")
WHITE_PLACE = TISSUES.index("white")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module in (engine, real):
        monkeypatch.setattr(module, "WINDOW", (48, 48, 48))


@pytest.fixture
def everyone_is_ill(monkeypatch):
    monkeypatch.setattr(painting, "HEALTHY", 0.0)


def rng(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def case(tmp_path):
    """A head as a real scan of two contrasts, with one lesion."""
    head = make_head()
    inside = (head.depth_mm > 0).numpy()
    noise = np.random.default_rng(0).normal(0, 0.3, (2, *SHAPE))
    images = noise + np.array([0.5, -0.5])[:, None, None, None] * (
        head.tissues == TISSUES.index("cortex")
    ).numpy().astype(float)
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[12:15, 20:23, 16:19] = 1
    affine = nib.affines.from_matvec(np.eye(3), -CENTRE)
    save_case(
        tmp_path / "case",
        [nib.Nifti1Image(np.where(inside, i, 0).astype(np.float32), affine) for i in images],
        nib.Nifti1Image(inside.astype(np.uint8), affine),
        nib.Nifti1Image(lesions, affine),
        anatomy=None,
    )
    return Case(Scan("1", None, None), tmp_path / "case", ("FLAIR", "T1w"))


@pytest.fixture
def scanned(case, monkeypatch):
    """The case ready to be changed; its T1w shows no tissues, so they are told."""
    tissues = make_head().tissues.numpy()
    classes = np.full(tissues.shape, CSF)
    classes[tissues == WHITE_PLACE] = WHITE
    classes[tissues == TISSUES.index("cortex")] = GREY
    monkeypatch.setattr(real, "classify_tissue", lambda t1w, brain: classes)
    # The head is much smaller than the template.
    monkeypatch.setattr(Case, "to_template", TO_TEMPLATE.astype(np.float32))
    return prepare_real(case)


def test_real_scans_get_further_lesions(scanned, everyone_is_ill):
    volumes = []
    for seed in range(8):
        sample = change_scan(scanned, [make_donor()], CONTRASTS, rng(seed))
        assert sample.volume.shape == (2, 48, 48, 48)
        assert not sample.volume[:, ~sample.brain].any()
        assert sample.places.shape == (48, 48, 48, 3)
        volumes.append(int(sample.lesions.sum()))
    assert max(volumes) > 2 * int(scanned.case.lesions.sum())


@pytest.mark.parametrize(("cleared", "kept"), [(0.0, 1.0), (1.0, 0.0)])
def test_real_scans_keep_or_lose_their_lesions(scanned, monkeypatch, cleared, kept):
    monkeypatch.setattr(real, "CLEARED", cleared)
    monkeypatch.setattr(real, "KEPT", kept)
    for seed in range(4):
        sample = change_scan(scanned, [], CONTRASTS, rng(seed))
        assert sample.lesions.any() == bool(kept)


def test_where_lesions_were_cleared_there_is_white_matter(scanned):
    lesions = np.asarray(scanned.case.lesions)
    white = (np.asarray(scanned.tissues) == WHITE_PLACE) & ~lesions
    spread, cleared = np.asarray(scanned.spread), np.asarray(scanned.cleared)
    bright = np.where(lesions, spread + 5, spread)
    found = np.stack([real._clear(image, lesions, white, np.zeros_like(white)) for image in bright])
    for image in found:
        assert abs(image[lesions].mean() - image[white].mean()) < 0.3
        assert 0.3 < image[lesions].std() / image[white].std() < 2
    far = ~ndimage.binary_dilation(lesions, iterations=8)
    np.testing.assert_allclose(cleared[:, far], spread[:, far], atol=1e-4)


def test_tissues_are_told_and_lesions_are_white_matter(scanned):
    found, truth = np.asarray(scanned.tissues), make_head().tissues.numpy()
    for name in ("cortex", "white"):
        place = TISSUES.index(name)
        assert (found[truth == place] == place).mean() > 0.95
    assert (found[scanned.case.lesions] == WHITE_PLACE).all()


def test_the_contrasts_go_on_beyond_the_brain(scanned):
    brain = np.asarray(scanned.case.brain)
    assert (scanned.spread[:, ~brain] != 0).all()
    np.testing.assert_array_equal(scanned.spread[:, brain], scanned.case.volume.numpy()[:, brain])


def test_who_is_left_out_gives_neither_scan_nor_lesions(scanned):
    donors = (make_donor("1"), make_donor("2"))
    whole = Engine(CONTRASTS, (make_head(),), donors, (scanned,))
    left = whole.without({"1"})
    assert [donor.subject for donor in left.donors] == ["2"]
    assert not left.real
    assert left.kinds == (Kind.MADE_UP,)


def test_samples_are_of_the_kinds_that_there_are_and_say_which(scanned, unknown):
    whole = Engine(CONTRASTS, (make_head(),), (make_donor(),), (scanned,), (unknown,))
    assert whole.kinds == tuple(Kind)
    for kind in Kind:
        sample = whole.draw(rng(0), kind)
        assert sample.kind == kind
        assert (sample.unsure is not None) == (kind is Kind.UNLABELLED)
    assert replace(whole, heads=(), unlabelled=()).kinds == (Kind.LABELLED,)
    assert whole.describe()["unlabelled_scans"] == ["sub-1"]
    assert not whole.without({"1"}).unlabelled


@pytest.fixture
def unknown(scanned, tmp_path):
    """A scan that nobody labelled, whose front may be a lesion."""
    suspects = np.zeros(SHAPE, bool)
    suspects[10:30, 25:35, 12:24] = True
    path = tmp_path / "suspects.npy"
    np.save(path, suspects)
    np.save(scanned.case.folder / "lesions.npy", np.zeros(SHAPE, bool))
    return replace(prepare_real(scanned.case), kind=Kind.UNLABELLED, suspects=path)


def test_lesions_are_painted_beside_what_is_suspected(unknown, everyone_is_ill):
    beside = replace(unknown, suspects=None)
    inside, free, elsewhere = 0, 0, 0
    for seed in range(8):
        sample = change_scan(unknown, [make_donor()], CONTRASTS, rng(seed))
        other = change_scan(beside, [make_donor()], CONTRASTS, rng(seed))
        inside += int((sample.lesions & sample.unsure).sum())
        free += int((other.lesions & sample.unsure).sum())
        elsewhere += int((sample.lesions & ~sample.unsure).sum())
    assert inside == 0
    assert free > 100
    assert elsewhere > 100


def test_nothing_is_learned_from_what_is_suspected(unknown):
    source = Engine(CONTRASTS, (), (), (), (unknown,))
    sample = change_scan(unknown, [], CONTRASTS, rng(0))
    found = [
        choose_voxels(JetNetwork(2), one, CandidateRule(), [], source, rng(0)).target[:, 1].sum()
        for one in (sample, replace(sample, unsure=None))
    ]
    unsure = (sample.unsure & sample.brain).sum()
    assert unsure > 0
    assert found[1] - found[0] == pytest.approx(float(unsure), rel=1e-3)


def test_a_contrast_that_a_scan_lacks_is_missing(unknown):
    channels = ("FLAIR", "T2w", "T1w")
    sample = change_scan(unknown, [], channels, rng(1))
    assert sample.volume.shape[0] == 3
    assert sample.volume[0].any()
    assert not sample.volume[1].any()


def test_a_method_names_what_may_be_a_lesion(scanned, tmp_path, monkeypatch):
    probability = np.zeros(SHAPE, np.float32)
    probability[25, 22, 18], probability[30, 22, 18] = SUSPECTED + 0.01, SUSPECTED - 0.01
    asked = []

    def run(stages, volume, flair, brain, **_):
        asked.append(volume)
        return LesionMaps(probability, None)

    monkeypatch.setattr(unlabelled, "run_stages", run)
    channels = ("FLAIR", "T2w", "T1w")
    for _ in range(2):  # the second time it is there already
        (named,) = name_suspects([scanned], [], channels, "mean", tmp_path / "found")
    (volume,) = asked
    assert not volume[1].any()
    np.testing.assert_array_equal(volume[[0, 2]], scanned.case.volume)
    distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - (25, 22, 18), axis=-1)
    expected = (distance <= MARGIN_MM) & scanned.case.brain
    np.testing.assert_array_equal(np.load(named.suspects), expected)


@pytest.mark.parametrize(("across", "suspected"), [(0.0, True), (0.3, True), (0.6, False)])
def test_what_is_alike_on_both_sides_is_not_suspected(scanned, across, suspected):
    """The two spots lie across from each other, but one is 2 mm farther back."""
    probability = np.zeros(SHAPE, np.float32)
    left, right = (28, 22, 18), (SHAPE[0] - 1 - 28, 24, 18)
    probability[left], probability[right] = 0.8, across
    brain = np.asarray(scanned.case.brain)
    found = find_suspects(probability, brain, scanned.case.places)
    assert found[left] == suspected
    assert not found[right]


def test_in_the_middle_of_the_head_sides_are_not_compared(scanned):
    probability = np.zeros(SHAPE, np.float32)
    probability[18:22, 20:23, 16:19] = 0.8
    brain = np.asarray(scanned.case.brain)
    assert find_suspects(probability, brain, scanned.case.places)[probability > 0].all()


def test_of_many_lesions_all_are_suspected(scanned):
    probability = np.asarray(scanned.case.brain).astype(np.float32)
    assert probability.sum() > 1000 * MANY_ML
    brain = np.asarray(scanned.case.brain)
    np.testing.assert_array_equal(find_suspects(probability, brain, scanned.case.places), brain)


@pytest.mark.parametrize("probability", [0.0, 0.4])
def test_where_all_is_alike_or_unlikely_nothing_is_suspected(scanned, probability):
    maps = np.zeros(SHAPE, np.float32)
    maps[[8, SHAPE[0] - 1 - 8], 20:24, 16:20] = probability
    assert not find_suspects(maps, np.asarray(scanned.case.brain), scanned.case.places).any()


def test_a_second_round_learns_from_unlabelled_scans_too(scanned, unknown, tmp_path, monkeypatch):
    learned, seeds = [], set()

    def fit(network, source, *_, known, schedule, seed, **__):
        learned.append((source, known, schedule.max_minutes))
        seeds.add(seed)
        for weight in network.parameters():
            torch.nn.init.constant_(weight, len(learned))

    monkeypatch.setattr(cascade, "fit_samples", fit)
    monkeypatch.setattr(cascade, "name_suspects", lambda scans, *_: [unknown] * len(scans))
    recipe = find_recipe("cascade")
    schedules = [replace(recipe.schedule, max_minutes=4.0)] * 2
    source = Engine(CONTRASTS, (make_head(),), (make_donor(),), (scanned,), (scanned,))
    options = {"schedules": schedules, "seed": 0, "device": torch.device("cpu"), "engine": source}
    stages = train_stages(recipe, [], CONTRASTS, tmp_path, **options)
    assert [known for _, known, _ in learned] == [False, False, True, True]
    assert [minutes for _, _, minutes in learned] == [2.0] * 4
    # No network draws the samples of another.
    assert len(seeds) == 4
    for first, _, _ in learned[:2]:
        assert first.heads
        assert not first.unlabelled
    for second, _, _ in learned[2:]:
        assert second.kinds == tuple(Kind)
        assert second.unlabelled == (unknown,)
    # Two experts, whose weights are the mean of those after both rounds.
    for stage, number in zip(stages[:2], (2, 3), strict=True):
        assert len(stage.network.experts) == 2
        assert stage.network.share == round(1 / 11, 4)
        assert (stage.network.experts[0][0].weight == number).all()
    # What is known of labelled scans is kept, though there are none to go on with.
    without = replace(source, real=(), unlabelled=())
    again = train_stages(
        recipe, [], CONTRASTS, tmp_path / "again", **{**options, "engine": without}, start=stages
    )
    assert [stage.network.share for stage in again[:2]] == [round(1 / 11, 4)] * 2
    learned.clear()
    # Without labelled scans there is one expert, and a second round all the same.
    options["engine"] = replace(source, real=())
    stages = train_stages(recipe, [], CONTRASTS, tmp_path / "alone", **options)
    assert len(learned) == 4
    assert [len(stage.network.experts) for stage in stages[:2]] == [1, 1]
