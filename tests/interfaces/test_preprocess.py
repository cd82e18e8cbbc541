"""The interfaces read what others made as carefully as the first step does."""

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.errors import ScanError
from cascade_bids.interfaces.masks import ResampleMask
from cascade_bids.interfaces.preprocess import Prepare, ResampleProbability
from cascade_bids.transforms import write_transform

from ..preprocess.small_images import SHAPE, moved, noise, rigid


@pytest.fixture
def raw_grid(tmp_path):
    """A raw image as NIfTI-2, which `load_image` accepts."""
    path = tmp_path / "raw.nii.gz"
    nib.save(nib.Nifti2Image.from_image(noise()), path)
    return path


@pytest.fixture
def brain(tmp_path):
    values = np.zeros(SHAPE, np.uint8)
    values[2:9, 3:12, 2:8] = 1
    path = tmp_path / "brain.nii.gz"
    nib.save(nib.Nifti1Image(values, noise().affine), path)
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.nii.gz"
    nib.save(noise(dtype=np.float32), path)
    return path


def test_images_come_onto_the_grid_of_a_nifti_2_image(tmp_path, raw_grid, image, brain):
    node = Prepare(in_files=[image], contrasts=["FLAIR"], brain=brain, grid=raw_grid)
    results = node.run(cwd=str(tmp_path)).outputs
    assert nib.load(results.out_files[0]).shape == SHAPE
    np.testing.assert_array_equal(nib.load(results.brain).dataobj, nib.load(brain).dataobj)


def test_probabilities_come_onto_the_grid_of_a_nifti_2_image(tmp_path, raw_grid, image):
    write_transform(np.eye(4), tmp_path / "rigid.txt")
    node = ResampleProbability(in_file=image, rigid=tmp_path / "rigid.txt", grid=raw_grid)
    found = nib.load(node.run(cwd=str(tmp_path)).outputs.out_file)
    np.testing.assert_allclose(found.dataobj, nib.load(image).dataobj, atol=1e-2)


def test_a_nifti_2_mask_is_accepted(tmp_path, image, brain):
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti2Image.from_image(nib.load(brain)), mask)
    found = ResampleMask(in_file=mask, grid=image).run(cwd=str(tmp_path)).outputs.out_file
    np.testing.assert_array_equal(nib.load(found).dataobj, nib.load(brain).dataobj)


def test_only_a_lesion_mask_may_be_empty(tmp_path, image):
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), noise().affine), mask)
    node = ResampleMask(in_file=mask, grid=image, may_be_empty=True)
    assert not np.any(nib.load(node.run(cwd=str(tmp_path)).outputs.out_file).dataobj)
    with pytest.raises(ScanError, match=r"mask\.nii\.gz is empty; give a whole mask"):
        ResampleMask(in_file=mask, grid=image).run(cwd=str(tmp_path))


def test_a_lesion_too_small_for_the_grid_is_no_lesion_but_one_beyond_it_is_a_mistake(
    tmp_path, image
):
    fine = nib.affines.rescale_affine(noise().affine, SHAPE, 0.25, np.multiply(SHAPE, 4))
    values = np.zeros(np.multiply(SHAPE, 4), np.uint8)
    values[20, 20, 20] = 1
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(values, fine), mask)
    node = ResampleMask(in_file=mask, grid=image, may_be_empty=True)
    assert not np.any(nib.load(node.run(cwd=str(tmp_path)).outputs.out_file).dataobj)
    fine[:3, 3] += 1000
    nib.save(nib.Nifti1Image(values, fine), mask)
    with pytest.raises(ScanError, match="lies outside of the image"):
        ResampleMask(in_file=mask, grid=image, may_be_empty=True).run(cwd=str(tmp_path))


def test_a_damaged_mask_is_named(tmp_path, image, brain):
    brain.write_bytes(brain.read_bytes()[:-20])
    with pytest.raises(ScanError, match=r"brain\.nii\.gz is no whole NIfTI image"):
        ResampleMask(in_file=brain, grid=image).run(cwd=str(tmp_path))


def test_a_mask_of_another_place_is_named(tmp_path, image, brain):
    elsewhere = tmp_path / "elsewhere.nii.gz"
    nib.save(moved(nib.load(brain), rigid(shift_mm=(500, 0, 0))), elsewhere)
    with pytest.raises(ScanError, match=r"elsewhere\.nii\.gz lies outside of the image"):
        ResampleMask(in_file=elsewhere, grid=image).run(cwd=str(tmp_path))
