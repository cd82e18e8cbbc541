"""The atlas of regions is built from labels that lie in another template's space."""

import json
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage

from cascade_bids.lesions.build_atlas import (
    REGIONS,
    fit_affine,
    regions_from_wmparc,
    resample_regions,
    write_atlas,
)

SOURCES = Path(__file__).resolve().parents[3] / "shared" / "data" / "atlas"


def brain(world_to_shape, affine, shape):
    """Draw a smooth, asymmetric brain: a function of world coordinates, sampled on a grid."""
    voxels = np.indices(shape).reshape(3, -1).T
    x, y, z = apply_affine(world_to_shape @ affine, voxels).T
    rim = (x / 26) ** 2 + (y / 30) ** 2 + (z / 24) ** 2
    inside = 100 + 30 * np.sin(x / 5) * np.cos(y / 6) + 20 * np.sin(z / 4 + x / 9)
    values = np.where(rim < 1, inside, 0).reshape(shape).astype(np.float32)
    return nib.Nifti1Image(values, affine)


@pytest.mark.parametrize("flip", [1, -1], ids=["RAS", "LAS"])
def test_a_known_affine_is_found_again(flip):
    truth = np.array(
        [[1.02, -0.01, 0, 0.6], [0.03, 0.98, 0.01, -0.4], [0, 0.01, 1.03, 0.3], [0, 0, 0, 1]]
    )
    grid = np.diag([1.0, 1.0, 1.0, 1.0])
    grid[:3, 3] = (-32, -36, -30)
    other = np.diag([flip, 1.0, 1.0, 1.0])
    other[:3, 3] = (-32 * flip, -36, -30)
    fixed = brain(truth, grid, (65, 73, 61))
    moving = brain(np.eye(4), other, (65, 73, 61))
    found = fit_affine(fixed, moving)
    points = np.random.default_rng(0).uniform(-20, 20, (200, 3))
    errors = np.linalg.norm(apply_affine(found, points) - apply_affine(truth, points), axis=1)
    assert errors.max() < 0.3


def test_freesurfer_labels_become_regions():
    labels = {4: 1, 31: 1, 1012: 2, 2035: 2, 3001: 3, 5002: 3, 251: 3, 17: 4, 16: 5, 8: 6, 15: 7}
    wmparc = np.array([*labels, 0, 85], np.float32).reshape(-1, 1, 1, 1)
    regions = regions_from_wmparc(wmparc)
    assert regions.dtype == np.uint8
    assert regions.shape == (len(labels) + 2, 1, 1)
    assert regions.ravel().tolist() == [*labels.values(), 0, 0]


def test_no_label_belongs_to_two_regions():
    listed = [label for known in REGIONS.values() for label in known]
    assert len(listed) == len(set(listed))


def test_regions_keep_their_place_on_another_grid():
    labels = np.zeros((20, 16, 12), np.uint8)
    labels[4:12, 4:12, 3:9] = 3
    labels[12:16, 4:12, 3:9] = 6
    source = nib.Nifti1Image(labels, np.eye(4))
    flipped = nib.Nifti1Image(np.zeros((20, 16, 12)), np.diag([-1.0, 1, 1, 1]))
    flipped.affine[0, 3] = 19
    found = resample_regions(source, flipped, np.eye(4))
    np.testing.assert_array_equal(np.asarray(found.dataobj), labels[::-1])
    shift = np.eye(4)
    shift[1, 3] = 0.6  # most of the voxel comes from its neighbour
    shifted = np.asarray(resample_regions(source, source, shift).dataobj)
    expected = ndimage.shift(labels, (0, -1, 0), order=0)
    np.testing.assert_array_equal(shifted, expected)


@pytest.mark.slow
@pytest.mark.skipif(not SOURCES.is_dir(), reason="the atlas sources are not here")
def test_the_committed_atlas_comes_from_its_sources(tmp_path):
    assert write_atlas(SOURCES, tmp_path) == tmp_path / "atlas.json"
    folder = files("cascade_bids") / "data" / "atlas"
    old, new = (json.loads((place / "atlas.json").read_text()) for place in (folder, tmp_path))
    for name in ("sources", "labels", "made_by"):
        assert new[name] == old[name]
    # Another processor may round the search for the transform otherwise.
    np.testing.assert_allclose(
        new["transform"]["world_mm"], old["transform"]["world_mm"], atol=0.002
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atlas.json", "atlas.nii.gz"]
