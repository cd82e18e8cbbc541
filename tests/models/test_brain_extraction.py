"""The brain is found where it is, however the image is stored."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from cascade_bids.errors import ScanError
from cascade_bids.metrics.overlap import dice
from cascade_bids.models import brain_extraction
from cascade_bids.models.architectures.unet import UNet
from cascade_bids.models.architectures.valverde2017 import Valverde2017Network
from cascade_bids.models.brain_extraction import (
    brain_mask,
    brain_probability,
    extract_brain,
    normalise,
    shows_brain_alone,
)
from cascade_bids.models.card import load_model_card
from cascade_bids.models.weights import save_method
from cascade_bids.phantom import make_head
from cascade_bids.preprocess.masks import apply_mask

CARD = load_model_card(brain_extraction.CARD)
RADII_MM = np.array([62.0, 78.0, 56.0])


class Threshold(UNet):
    """A network that calls brain what is brighter than half of the brightest."""

    def __init__(self):
        super().__init__(1, (1, 1, 1))

    def forward(self, x):
        assert all(size % self.divisor == 0 for size in x.shape[2:])
        return 20 * (x - 0.5) + 0 * self.head.weight.sum()


@pytest.fixture
def threshold(monkeypatch):
    """Let a threshold stand in for the trained network."""
    stand_in(monkeypatch, Threshold)


def stand_in(monkeypatch, network):
    monkeypatch.setattr(
        brain_extraction, "load_network", lambda *_, device, **__: network().to(device).eval()
    )


def egg(spacing_mm):
    """An image of an egg off the centre, and its mask; 1134 ml."""
    spacing = np.array(spacing_mm)
    shape = tuple(int(n) for n in np.ceil(2.4 * RADII_MM / spacing))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    x, y, z = np.indices(shape) * spacing.reshape(3, 1, 1, 1) + affine[:3, 3].reshape(3, 1, 1, 1)
    a, b, c = RADII_MM
    inside = ((x - 4) / a) ** 2 + ((y + 6) / b) ** 2 + ((z - 3) / c / (1 + y / 400)) ** 2 < 1
    return (
        nib.Nifti1Image(np.where(inside, 300, 0).astype(np.int16), affine),
        nib.Nifti1Image(inside.astype(np.uint8), affine),
    )


def volume_ml(mask):
    return np.asarray(mask.dataobj).sum() * abs(np.linalg.det(mask.affine[:3, :3])) / 1000


@pytest.mark.parametrize("spacing_mm", [(3, 3, 3), (1.3, 1.7, 5)], ids=["coarse", "thick slices"])
def test_mask_lies_on_the_brain_in_every_orientation(threshold, reorient, spacing_mm):
    image, truth = (reorient(one) for one in egg(spacing_mm))
    found = extract_brain(image, CARD)
    assert found.shape == image.shape
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-5)
    assert dice(np.asarray(found.dataobj) > 0, np.asarray(truth.dataobj) > 0) > 0.96
    assert volume_ml(found) == pytest.approx(volume_ml(truth), rel=0.03)


@pytest.mark.parametrize("axes", ["LAS", "LPS", "SAR"])
def test_stored_axes_change_no_voxel(threshold, axes):
    image, _ = egg((3, 3, 3))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
    )
    back = nib.as_closest_canonical(extract_brain(image.as_reoriented(turn), CARD))
    found = extract_brain(image, CARD)
    np.testing.assert_allclose(back.affine, found.affine, atol=1e-5)
    np.testing.assert_array_equal(back.dataobj, found.dataobj)


def save_brain(network, architecture, arguments, folder):
    entry = {"architecture": architecture, "arguments": arguments}
    path = save_method("brain", [(network, entry)], {"task": "brain extraction"}, folder)
    return load_model_card(str(path))


def test_probability_lies_on_the_grid_of_the_image(tmp_path):
    """With a network of the true kind, from its weights and card."""
    torch.manual_seed(0)
    arguments = {"channels_in": 1, "widths": [2, 3, 4, 5]}
    card = save_brain(UNet(**arguments), "UNet", arguments, tmp_path)
    image = egg((4, 3, 5))[0].slicer[:, 3:, 1:]  # no size is a multiple of the divisor
    probability = brain_probability(image, card, device=torch.device("cpu"))
    values = np.asarray(probability.dataobj)
    assert values.shape == image.shape
    assert values.dtype == np.float32
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.std() > 0
    np.testing.assert_array_equal(probability.affine, image.affine)
    np.testing.assert_array_equal(brain_probability(image, card).dataobj, values)


@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_a_brain_cut_by_the_field_of_view_is_found_up_to_the_edge(threshold, axes):
    """Some FLAIR images start in the middle of the cerebellum."""
    cut, truth = (
        one.slicer[:, :, 8:].as_reoriented(
            nib.orientations.ornt_transform(
                nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
            )
        )
        for one in egg((3, 3, 3))
    )
    found, expected = (np.asarray(one.dataobj) > 0 for one in (extract_brain(cut, CARD), truth))
    lowest = 0 if axes[2] == "S" else -1
    assert expected[:, :, lowest].sum() > 500
    assert dice(found[:, :, lowest], expected[:, :, lowest]) > 0.9
    assert dice(found, expected) > 0.96


def widened(image, voxels):
    """The same image with air around it."""
    affine = image.affine @ nib.affines.from_matvec(np.eye(3), [-voxels] * 3)
    return nib.Nifti1Image(np.pad(np.asarray(image.dataobj), voxels), affine)


def test_the_network_sees_no_more_than_its_window(monkeypatch):
    """Its norms depend on the share of air, so a wide field of view must not reach it."""
    seen = []

    class Watching(Threshold):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    stand_in(monkeypatch, Watching)
    image, _ = egg((4, 4, 4))
    found, wider = extract_brain(image, CARD), extract_brain(widened(image, 15), CARD)
    assert len(seen) == 4  # it looks twice at each
    assert seen[0].shape == seen[1].shape == (1, 1, *brain_extraction.WINDOW)
    torch.testing.assert_close(seen[2], seen[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[3], seen[1], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(wider.dataobj)[15:-15, 15:-15, 15:-15], found.dataobj)


def test_the_second_window_has_the_brain_in_the_middle(monkeypatch):
    """As in training; the head alone lays a brain that is cut above too low."""
    seen = []

    class Watching(Threshold):
        def forward(self, x):
            seen.append(ndimage.center_of_mass(x[0, 0].numpy()))
            return super().forward(x)

    stand_in(monkeypatch, Watching)
    extract_brain(egg((4, 4, 4))[0].slicer[:, :, :-10], CARD)
    middle = (np.array(brain_extraction.WINDOW) - 1) / 2
    assert abs(seen[0] - middle).max() > 5
    assert abs(seen[1] - middle).max() < 1


def test_weights_of_another_kind_are_refused(tmp_path):
    arguments = {"channels_in": 1, "widths": [2, 3], "hidden": 4}
    card = save_brain(Valverde2017Network(**arguments), "PatchNetwork", arguments, tmp_path)
    with pytest.raises(TypeError, match="hold a PatchNetwork, not a UNet"):
        brain_probability(egg((4, 4, 4))[0], card)


def probability_image(values, spacing=4.0):
    return nib.Nifti1Image(values.astype(np.float32), np.diag([spacing, spacing, spacing, 1]))


def test_largest_piece_is_kept_and_its_holes_filled():
    truth = np.zeros((40, 40, 40))
    truth[5:30, 5:30, 5:30] = 0.5
    values = truth.copy()
    values[10:13, 10:14, 10:12] = 0.4  # ventricles
    values[0:3, 0:3, 0:3] = 1  # a speck that comes first
    values[33:38, 5:30, 5:30] = 0.9  # scalp
    found = brain_mask(probability_image(values))
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(found.dataobj), truth > 0)


@pytest.mark.parametrize(
    ("edge", "value", "found_ml"),
    [(0, 1.0, 0), (40, 0.49, 0), (10, 1.0, 64), (19, 1.0, 439)],
    ids=["nothing", "nothing sure", "a little", "not enough"],
)
def test_too_little_brain_is_no_brain(edge, value, found_ml):
    values = np.zeros((40, 40, 40))
    values[:edge, :edge, :edge] = value
    with pytest.raises(ScanError, match=f"only {found_ml} ml of brain: check that the image"):
        brain_mask(probability_image(values))


def test_the_limit_is_in_ml_and_not_in_voxels():
    values = np.zeros((40, 40, 40))
    values[:20, :20, :20] = 1
    assert volume_ml(brain_mask(probability_image(values, 4.0))) == pytest.approx(512)
    with pytest.raises(ScanError, match="only 64 ml"):
        brain_mask(probability_image(values, 2.0))


def test_an_image_of_air_has_no_brain(threshold):
    image, _ = egg((4, 4, 4))
    with pytest.raises(ScanError, match="only 0 ml of brain"):
        extract_brain(nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine), CARD)


def test_normalise_ignores_gain_and_clips():
    values = np.random.default_rng(0).gamma(2, 100, (20, 20, 20)).astype(np.float32) - 50
    scaled = normalise(values)
    assert scaled.dtype == np.float32
    assert scaled.min() == 0
    assert scaled.max() <= 1.5
    assert np.percentile(scaled[scaled > 0], 99.5) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(normalise(1000 * values), scaled, atol=1e-5)
    assert not normalise(np.full((3, 3, 3), -1, np.float32)).any()


@pytest.fixture(scope="module", params=["FLAIR", "T1w"])
def head(request):
    return make_head(5, spacing_mm=(3, 3, 3), contrast=request.param)


def test_air_around_the_head_does_not_move_the_brain(head):
    found = extract_brain(head.image, CARD)
    wider = extract_brain(widened(head.image, 14), CARD)
    inner = np.asarray(wider.dataobj)[14:-14, 14:-14, 14:-14]
    assert dice(np.asarray(found.dataobj) > 0, inner > 0) > 0.99


def test_trained_network_finds_the_brain_of_a_phantom(head, reorient):
    found = extract_brain(reorient(head.image), CARD)
    truth = reorient(head.brain_mask)
    assert dice(np.asarray(found.dataobj) > 0, np.asarray(truth.dataobj) > 0) > 0.85


def test_a_brain_without_a_skull_is_told_from_a_head(head, reorient):
    image, mask = reorient(head.image), reorient(head.brain_mask)
    assert not shows_brain_alone(image, mask)
    brain = apply_mask(image, mask)
    assert shows_brain_alone(brain, mask)
    # The mask that is found in a brain alone may be too small.
    core = ndimage.binary_erosion(np.asarray(mask.dataobj) > 0)
    assert shows_brain_alone(brain, nib.Nifti1Image(core.astype(np.uint8), mask.affine))
