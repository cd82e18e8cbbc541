"""The interfaces read what others made as carefully as the first step does."""

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.bids.scan import Scan
from cascade_bids.errors import ScanError
from cascade_bids.interfaces.cases import SaveCase
from cascade_bids.interfaces.masks import ResampleMask
from cascade_bids.interfaces.preprocess import Prepare, ResampleProbability
from cascade_bids.models.cases import Case
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


def test_an_empty_mask_is_named(tmp_path, image):
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), noise().affine), mask)
    with pytest.raises(ScanError, match=r"mask\.nii\.gz is empty; give a whole mask"):
        ResampleMask(in_file=mask, grid=image).run(cwd=str(tmp_path))


def test_a_damaged_mask_is_named(tmp_path, image, brain):
    brain.write_bytes(brain.read_bytes()[:-20])
    with pytest.raises(ScanError, match=r"brain\.nii\.gz is no whole NIfTI image"):
        ResampleMask(in_file=brain, grid=image).run(cwd=str(tmp_path))


def test_a_mask_of_another_place_is_named(tmp_path, image, brain):
    elsewhere = tmp_path / "elsewhere.nii.gz"
    nib.save(moved(nib.load(brain), rigid(shift_mm=(500, 0, 0))), elsewhere)
    with pytest.raises(ScanError, match=r"elsewhere\.nii\.gz lies outside of the image"):
        ResampleMask(in_file=elsewhere, grid=image).run(cwd=str(tmp_path))


@pytest.fixture
def save(tmp_path, image, brain):
    """Store a case whose FLAIR lies 4 mm beside the network grid and has twice as thick slices."""
    motion = rigid(shift_mm=(4, 0, 0))
    write_transform(motion, tmp_path / "rigid.txt")
    affine = motion @ noise().affine @ np.diag([1.0, 1, 2, 1])
    values = noise((12, 14, 5), np.float32, affine)
    nib.save(values, tmp_path / "flair.nii.gz")

    def saved(lesions=None):
        files = {"flair": tmp_path / "flair.nii.gz", "rigid": tmp_path / "rigid.txt"}
        if lesions is not None:
            files["lesions"] = tmp_path / "mask.nii.gz"
            nib.save(lesions, files["lesions"])
        node = SaveCase(
            in_files=[image],
            contrasts=["FLAIR"],
            order=["FLAIR"],
            brain=brain,
            folder=str(tmp_path / "case"),
            **files,
        )
        node.run(cwd=str(tmp_path))
        return Case(Scan("1", None, None), tmp_path / "case", ("FLAIR",))

    saved.grid = values.shape, affine
    return saved


def test_a_case_has_its_lesions_on_the_grids_of_the_flair_and_of_the_network(save):
    shape, affine = save.grid
    given = np.zeros(shape, np.uint8)
    given[4:6, 5:8, 2] = 1
    case = save(nib.Nifti1Image(given, affine))
    np.testing.assert_array_equal(case.reference, given > 0)
    np.testing.assert_allclose(case.reference_affine, affine)
    np.testing.assert_allclose(case.to_flair, rigid(shift_mm=(4, 0, 0)))
    # A slice of the FLAIR is one of the network grid, and the half of those beside it.
    expected = np.zeros(SHAPE)
    expected[4:6, 5:8, 3:6] = (0.5, 1, 0.5)
    np.testing.assert_allclose(case.share, expected, atol=1e-3)


def test_a_case_may_be_healthy_or_unlabelled(save):
    shape, affine = save.grid
    healthy = save(nib.Nifti1Image(np.zeros(shape, np.uint8), affine))
    assert healthy.reference.shape == shape
    assert not healthy.share.any()
    assert not save().share.any()


def test_a_lesion_too_small_for_the_network_grid_is_no_lesion_but_one_beyond_it_is_a_mistake(save):
    shape, affine = save.grid
    fine = nib.affines.rescale_affine(affine, shape, 0.25, np.multiply(shape, 8))
    values = np.zeros(np.multiply(shape, 8), np.uint8)
    values[45, 50, 20] = 1
    case = save(nib.Nifti1Image(values, fine))
    assert not case.lesions.any()
    fine[:3, 3] += 1000
    with pytest.raises(ScanError, match=r"the mask .*mask\.nii\.gz lies outside of the image"):
        save(nib.Nifti1Image(values, fine))
