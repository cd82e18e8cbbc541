"""Shading of known shape is removed, and nothing else."""

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.phantom.anatomy import build_anatomy, render
from cascade_bids.phantom.scanner import acquire, centred_grid
from cascade_bids.preprocess.bias import correct_bias
from cascade_bids.preprocess.conform import conform


@pytest.fixture(scope="module")
def clean():
    """A noiseless T1w at 3 mm, and where it is all white matter."""
    anatomy = build_anatomy()
    grid = centred_grid((192.0, 240.0, 186.0), (3.0, 3.0, 3.0))
    place = nib.affines.from_matvec(np.eye(3), [0, 18, -5])
    signal = acquire(render(anatomy, "T1w"), anatomy.affine, place, grid)
    white = acquire(anatomy.fractions["white"] / np.float32(255), anatomy.affine, place, grid)
    return nib.Nifti1Image(500 * signal, grid.affine), white > 0.97


def test_shading_is_removed(clean, reorient):
    image, white = clean
    x, y, z = (
        np.linspace(-1, 1, n).reshape(np.roll([-1, 1, 1], a)) for a, n in enumerate(white.shape)
    )
    field = np.exp(0.4 * x - 0.4 * y**2 + 0.3 * z).astype(np.float32)
    shaded = nib.Nifti1Image(np.asarray(image.dataobj) * field, image.affine)
    stored, inside = (
        conform(reorient(one), "x").image
        for one in (shaded, nib.Nifti1Image(white.astype(np.uint8), image.affine))
    )
    found = correct_bias(stored)
    np.testing.assert_array_equal(found.affine, stored.affine)
    inside = np.asarray(inside.dataobj) > 0

    def variation(one):
        values = np.asarray(one.dataobj)[inside]
        return values.std() / values.mean()

    assert variation(stored) > 0.12
    assert variation(found) < 0.35 * variation(stored)
    assert np.asarray(found.dataobj).min() >= 0


def test_an_even_image_stays_even(clean):
    image, white = clean
    found = np.asarray(correct_bias(conform(image, "x").image).dataobj)[white]
    assert found.std() / found.mean() < 0.05


def test_negative_noise_is_no_signal_and_stays(clean):
    image, _ = clean
    signal = np.asarray(image.dataobj)
    ringing = np.where((signal < 1) & (np.indices(signal.shape).sum(0) % 40 == 0), -5, signal)
    stored = conform(nib.Nifti1Image(ringing, image.affine), "x").image
    found = np.asarray(correct_bias(stored).dataobj)
    np.testing.assert_array_equal(found < 0, ringing < 0)
    plain = np.asarray(correct_bias(conform(image, "x").image).dataobj)
    np.testing.assert_allclose(found[ringing > 0], plain[ringing > 0], rtol=0.01)


def test_the_field_is_as_smooth_between_the_sampled_voxels(clean):
    image, _ = clean
    values = np.asarray(image.dataobj)
    found = np.asarray(correct_bias(conform(image, "x").image).dataobj)
    field = np.divide(values, found, out=np.full_like(values, np.nan), where=found > 50)
    steps = np.abs(np.diff(np.log(field), axis=0))
    assert np.nanmax(steps) < 0.03


@pytest.mark.parametrize("spacing_mm", [1.0, 8.0, 25.0])
def test_few_slices_are_enough(clean, spacing_mm):
    image, _ = clean
    thin = nib.Nifti1Image(
        np.asarray(image.dataobj)[:, :, 30:38], np.diag([3.0, 3.0, spacing_mm, 1])
    )
    assert np.isfinite(correct_bias(conform(thin, "x").image).dataobj).all()
