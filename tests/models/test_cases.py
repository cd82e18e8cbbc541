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
    def saved(lesions=LESIONS, anatomy=None, **options):
        save_case(
            tmp_path / "case",
            [image(one) for one in IMAGES],
            image(BRAIN),
            None if lesions is None else image(lesions),
            anatomy=None if anatomy is None else image(anatomy),
            **options,
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


def test_a_case_keeps_how_much_of_a_voxel_is_lesion(save):
    share = np.zeros(SHAPE, np.float32)
    share[5:8, 5:8, 5:8] = (0.25, 0.5, 1)
    share[16, 16, 16] = 1  # outside the brain
    case = save(share)
    np.testing.assert_array_equal(case.share, np.where(BRAIN > 0, share, 0))
    np.testing.assert_array_equal(case.lesions, case.share >= 0.5)
    np.testing.assert_array_equal(case.reference, share >= 0.5)


def test_a_lesion_may_fill_no_voxel_by_half(save):
    case = save(np.float32(0.25) * mask((6, 7)))
    assert case.share.any()
    assert not case.lesions.any()


def test_lesions_as_given_lie_on_the_grid_of_the_flair(save):
    given = np.zeros((10, 11, 3), np.uint8)
    given[4, 5, 1] = 1
    affine = nib.affines.from_matvec(np.diag([2.0, 2, 7]), (3, 4, 5))
    motion = nib.affines.from_matvec(np.eye(3), (1, 2, 3))
    case = save(reference=nib.Nifti1Image(given, affine), to_flair=motion)
    np.testing.assert_array_equal(case.reference, given > 0)
    np.testing.assert_array_equal(case.reference_affine, affine)
    np.testing.assert_array_equal(case.to_flair, motion)
    assert case.slice_mm == 7
    assert save().slice_mm == 1
    np.testing.assert_array_equal(save().to_flair, np.eye(4))


def test_a_participant_is_dataset_and_label(tmp_path):
    scan = Scan("01", "a", None)
    here, there = (Case(scan, tmp_path, ("FLAIR",), source) for source in ("here", "there"))
    assert (here.label, here.participant) == ("here/sub-01_ses-a", "here/sub-01")
    assert here.participant != there.participant
    assert Case(scan, tmp_path, ("FLAIR",)).participant == "sub-01"


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
