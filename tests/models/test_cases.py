"""A scan on the network grid comes back from disk as it was stored."""

import nibabel as nib
import numpy as np
import pytest
import torch

from cascade_bids.bids.scan import Scan
from cascade_bids.errors import ScanError
from cascade_bids.lesions.spheres import lesion_spheres
from cascade_bids.models.architectures.patch_classifier import PatchReader
from cascade_bids.models.cases import BORDER, Case, save_case
from cascade_bids.preprocess.coordinates import template_affine, template_coordinates

SHAPE = (20, 22, 18)
AFFINE = nib.affines.from_matvec(np.eye(3), (-10, -12, -3))


def image(values):
    return nib.Nifti1Image(values, AFFINE)


def mask(*boxes):
    values = np.zeros(SHAPE, np.uint8)
    for start, stop in boxes:
        values[start:stop, start:stop, start:stop] = 1
    return values


BRAIN = mask((3, 15))
LESIONS = mask((5, 8), (14, 17))  # the second in part outside the brain
IMAGES = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
ANATOMY = np.random.default_rng(1).normal(size=(*SHAPE, 6)).astype(np.float32)


@pytest.fixture
def save(tmp_path):
    def saved(lesions=LESIONS, anatomy=None):
        save_case(
            tmp_path / "case",
            [image(one) for one in IMAGES],
            image(BRAIN),
            None if lesions is None else image(lesions),
            anatomy=None if anatomy is None else image(anatomy),
        )
        return Case(Scan("01", "a", None), tmp_path / "case", ("T1w", "FLAIR"))

    return saved


def test_a_case_comes_back_as_it_was_stored(save):
    case = save()
    assert case.label == "sub-01_ses-a"
    np.testing.assert_array_equal(case.channels, IMAGES)
    np.testing.assert_array_equal(case.flair, IMAGES[1])
    np.testing.assert_array_equal(case.brain, BRAIN > 0)
    np.testing.assert_array_equal(case.affine, AFFINE)
    # What lies outside the brain is scored, but not learned.
    np.testing.assert_array_equal(case.reference, LESIONS > 0)
    np.testing.assert_array_equal(case.lesions, (LESIONS > 0) & (BRAIN > 0))
    np.testing.assert_array_equal(case.spheres, lesion_spheres(case.lesions, (1, 1, 1)))
    assert case.spheres.any()


def test_networks_see_a_case_with_its_coordinates(save):
    case = save()
    to_template = template_affine(BRAIN > 0, AFFINE)
    expected = template_coordinates(SHAPE, to_template)
    np.testing.assert_array_equal(case.to_template, to_template)
    volume = case.volume
    np.testing.assert_array_equal(volume.channels, IMAGES)
    np.testing.assert_array_equal(volume.flair, IMAGES[1])
    np.testing.assert_array_equal(volume.brain, BRAIN > 0)
    np.testing.assert_array_equal(volume.coordinates, expected)


def test_anatomical_coordinates_are_the_last_channels(save):
    case = save(anatomy=ANATOMY)
    np.testing.assert_array_equal(case.channels[:2], IMAGES)
    np.testing.assert_array_equal(case.channels[2:], np.moveaxis(ANATOMY, -1, 0))
    np.testing.assert_array_equal(case.flair, IMAGES[1])


def test_patches_at_the_border_are_those_of_the_whole_volume(save):
    case = save()
    voxels = torch.tensor([[0, 0, 0], [19, 21, 17], [8, 9, 10]])
    for size in (11, 2 * BORDER + 1):
        expected = PatchReader(torch.from_numpy(IMAGES), size).read(voxels)
        assert torch.equal(case.patches(size).read(voxels), expected)


def test_what_is_done_to_a_case_in_memory_does_not_reach_the_disk(save):
    case = save()
    case.channels[:] = 0
    np.testing.assert_array_equal(case.channels, IMAGES)


@pytest.mark.parametrize("lesions", [None, mask()], ids=["unlabelled", "without lesions"])
def test_a_case_may_have_no_lesions(save, lesions):
    case = save(lesions)
    assert not case.lesions.any()
    assert not case.reference.any()
    assert not case.spheres.any()


def test_a_lesion_mask_beside_the_brain_is_refused_before_anything_is_stored(save, tmp_path):
    with pytest.raises(ScanError, match="no voxel in the brain; does it lie on the FLAIR"):
        save(mask((16, 18)))
    assert not (tmp_path / "case").exists()
