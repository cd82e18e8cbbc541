"""Random changes keep what they must and move what they should to where they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cascade_bids.training.synthesis import augment

SHAPE = (24, 20, 28)
STILL = {"max_degrees": 0.0, "max_scale": 0.0, "max_shift": 0.0, "elastic": 0.0}
few = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)

INTENSITY = {
    "bias_field": augment.bias_field,
    "remap_intensity": augment.remap_intensity,
    "gamma": augment.gamma,
    "thick_slices": augment.thick_slices,
    "rician_noise": augment.rician_noise,
    "ghost": augment.ghost,
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def head():
    """An egg of intensities between 0.2 and 1 in air."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.5
    values = np.where(inside, 0.6 + 0.4 * np.sin(5 * x + 3 * z), 0)
    return torch.from_numpy(values.astype(np.float32)).clamp(min=0)


def source_voxels(shape, source_shape, seed, centre=None, **limits):
    """Which voxel of the source each voxel of the sampled volume shows: (X, Y, Z, 3)."""
    if centre is None:
        centre = torch.tensor([(n - 1) / 2 for n in source_shape])
    grid = augment.random_grid(shape, source_shape, centre, generator(seed), **{**STILL, **limits})
    assert grid.shape == (1, *shape, 3)
    size = torch.tensor(source_shape) - 1
    return (grid[0].flip(-1) + 1) / 2 * size


# --- what all of them keep


@pytest.mark.parametrize("name", INTENSITY)
def test_shape_and_type_stay_and_the_seed_decides(head, name):
    change = INTENSITY[name]
    before = head.clone()
    one, again = (change(head, generator(5)) for _ in range(2))
    assert one.shape == head.shape
    assert one.dtype == torch.float32
    assert torch.equal(one, again)
    assert not torch.equal(one, change(head, generator(6)))
    assert torch.equal(head, before)  # the input is left alone
    assert torch.isfinite(one).all()
    assert one.min() >= 0


@few
@given(seed=seeds, name=st.sampled_from(["bias_field", "remap_intensity", "gamma"]))
def test_air_stays_air(head, seed, name):
    changed = INTENSITY[name](head, generator(seed))
    assert not changed[head == 0].any()


@pytest.mark.parametrize("name", INTENSITY)
def test_an_image_of_air_stays_air(name):
    assert not INTENSITY[name](torch.zeros(SHAPE), generator(0)).any()


# --- each of them


@few
@given(low=st.floats(-5, 5), width=st.floats(0, 5), seed=seeds)
def test_numbers_stay_in_their_limits(low, width, seed):
    found = augment.uniform(low, low + width, generator(seed))
    assert low <= found <= low + width + 1e-6


@few
@given(seed=seeds, channels=st.sampled_from([1, 3]))
def test_noise_is_smooth(seed, channels):
    field = augment.smooth_noise(SHAPE, (3, 3, 3), generator(seed), channels)
    assert field.shape == (channels, *SHAPE)
    for axis in (1, 2, 3):
        # Linear between knots that are at least 9 voxels apart and a few deviations high.
        assert field.diff(dim=axis).abs().max() < 10 / (field.shape[axis] - 1) * 2


@few
@given(seed=seeds)
def test_the_coil_shades_smoothly(head, seed):
    gain = torch.log(augment.bias_field(torch.ones(SHAPE), generator(seed), strength=0.3))
    assert gain.abs().max() < 0.3 * 5
    assert gain.diff(dim=0).abs().max() < 0.3
    assert torch.equal(augment.bias_field(head, generator(seed), strength=0.0), head)


@few
@given(seed=seeds)
def test_remapping_is_one_curve_for_the_whole_image(seed):
    ramp = torch.linspace(0, 1, 101)
    curve = augment.remap_intensity(ramp, generator(seed))
    assert curve[0] == 0
    assert curve.min() >= 0
    assert curve.max() <= 1
    bends = curve.diff().diff().abs() > 1e-4
    assert set((torch.nonzero(bends).flatten() + 1).tolist()) <= {20, 40, 60, 80}


@few
@given(seed=seeds)
def test_gamma_keeps_order_and_range(head, seed):
    changed = augment.gamma(head, generator(seed))
    assert float(changed.max()) == pytest.approx(float(head.max()), rel=1e-5)
    order = torch.argsort(head.flatten())
    assert (changed.flatten()[order].diff() >= -1e-6).all()


@few
@given(seed=seeds)
def test_thick_slices_blur_along_one_axis_and_move_nothing(head, seed):
    changed = augment.thick_slices(head, generator(seed))
    assert float(changed.mean()) == pytest.approx(float(head.mean()), rel=0.06)
    before, after = (ndimage.center_of_mass(one.numpy()) for one in (head, changed))
    np.testing.assert_allclose(after, before, atol=0.3)
    lines = [torch.zeros(SHAPE) for _ in range(3)]
    for axis, line in enumerate(lines):
        line.movedim(axis, 0)[SHAPE[axis] // 2] = 1
    kept = [torch.allclose(augment.thick_slices(x, generator(seed)), x, atol=1e-6) for x in lines]
    assert sum(kept) >= 2


def test_noise_is_that_of_a_magnitude_image():
    """Rayleigh in air (mean σ √(π/2)), near normal in tissue: Gudbjartsson & Patz, 1995."""
    image = torch.zeros(60, 60, 60)
    image[30:] = 1
    # The deviation is drawn first, so the same seed tells it.
    sigma = augment.uniform(0, 0.06, generator(3))
    noisy = augment.rician_noise(image, generator(3))
    assert float(noisy[:30].mean()) == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)
    assert float(noisy[30:].std()) == pytest.approx(sigma, rel=0.02)
    assert float(noisy[30:].mean()) == pytest.approx(1 + sigma**2 / 2, abs=2e-3)


def test_noise_may_be_stronger_in_the_middle():
    noisy = augment.rician_noise(torch.ones(60, 60, 60), generator(3), deep=2.0)
    rim, middle = noisy[:4].std(), noisy[26:34, 26:34, 26:34].std()
    rng = generator(3)
    sigma, more = augment.uniform(0, 0.06, rng), augment.uniform(0, 2.0, rng)
    assert float(middle / rim) > 1 + more / 2
    assert float(middle) == pytest.approx(sigma * (1 + more), rel=0.1)


# --- where voxels go


def test_nothing_moves_when_nothing_may(head):
    kept, mirrored = 0, 0
    for seed in range(12):
        grid = augment.random_grid(
            SHAPE, SHAPE, (torch.tensor(SHAPE) - 1) / 2, generator(seed), **STILL
        )
        found = augment.sample(head, grid, "bilinear")
        kept += torch.allclose(found, head, atol=1e-4)
        mirrored += torch.allclose(found, head.flip(0), atol=1e-4)
    assert kept + mirrored == 12
    assert min(kept, mirrored) > 1  # left and right are exchanged half of the time


@few
@given(seed=seeds, centre=st.tuples(*[st.floats(5, 15)] * 3))
def test_the_centre_comes_to_lie_in_the_middle(seed, centre):
    voxels = source_voxels((9, 11, 7), SHAPE, seed, torch.tensor(centre), max_degrees=20.0)
    np.testing.assert_allclose(voxels[4, 5, 3], centre, atol=1e-3)


@few
@given(seed=seeds)
def test_rotation_keeps_distances(seed):
    voxels = source_voxels((9, 9, 9), SHAPE, seed, max_degrees=20.0, max_shift=3.0).double()
    steps = torch.stack([voxels.diff(dim=a)[:8, :8, :8] for a in range(3)], dim=-1)
    matrix = steps[0, 0, 0]
    assert torch.allclose(steps, matrix.expand_as(steps), atol=1e-3)  # the same everywhere
    assert torch.allclose(matrix.T @ matrix, torch.eye(3).double(), atol=1e-3)
    assert abs(abs(torch.linalg.det(matrix)) - 1) < 1e-3
    mirrored = matrix @ torch.diag(torch.tensor([torch.linalg.det(matrix).sign(), 1, 1]).double())
    degrees = np.rad2deg(np.arccos(np.clip((float(mirrored.trace()) - 1) / 2, -1, 1)))
    assert degrees < 20 * np.sqrt(3) + 0.1
    shift = voxels[4, 4, 4] - (torch.tensor(SHAPE) - 1) / 2
    assert shift.abs().max() <= 3.001


@few
@given(seed=seeds)
def test_scaling_stays_in_its_limit(seed):
    voxels = source_voxels((9, 9, 9), SHAPE, seed, max_scale=0.15)
    for axis in range(3):
        step = float(voxels.diff(dim=axis)[0, 0, 0].norm())
        assert 0.849 < step < 1.151


@few
@given(seed=seeds, voxel=st.tuples(*[st.integers(6, 13)] * 3))
def test_a_landmark_is_where_the_grid_puts_it(seed, voxel):
    """Rotated, scaled, shifted and bent, a blob is found where the grid points at it."""
    limits = {"max_degrees": 20.0, "max_scale": 0.1, "max_shift": 2.0, "elastic": 0.5}
    blob = torch.zeros(SHAPE)
    blob[voxel] = 1
    blob = torch.from_numpy(ndimage.gaussian_filter(blob.numpy(), 1.5))
    voxels = source_voxels((32, 32, 32), SHAPE, seed, **limits)
    centre = (torch.tensor(SHAPE) - 1) / 2
    grid = augment.random_grid((32, 32, 32), SHAPE, centre, generator(seed), **limits)
    found = ndimage.center_of_mass(augment.sample(blob, grid, "bilinear").numpy())
    expected = torch.argmin((voxels - torch.tensor(voxel)).norm(dim=-1))
    np.testing.assert_allclose(found, np.unravel_index(int(expected), (32, 32, 32)), atol=1)


def test_labels_stay_labels_and_the_outside_is_empty():
    labels = torch.randint(1, 5, SHAPE, generator=generator(0)).to(torch.int16)
    centre = (torch.tensor(SHAPE) - 1) / 2
    grid = augment.random_grid((32, 32, 32), SHAPE, centre, generator(1))
    found = augment.sample(labels, grid, "nearest")
    assert set(found.unique().tolist()) == {0, 1, 2, 3, 4}
    assert not found[0, 0, 0]


@few
@given(seed=seeds)
def test_a_bad_registration_moves_by_less_than_it_may(seed):
    blob = torch.zeros(SHAPE)
    blob[11:13, 9:11, 13:15] = 1
    moved = augment.move(blob, generator(seed), max_mm=1.0)
    voxels = torch.stack(torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij")).float()
    before, after = ((voxels * mass).flatten(1).sum(1) / mass.sum() for mass in (blob, moved))
    assert (before - after).abs().max() <= 1.01
    assert moved.sum() == pytest.approx(8, rel=0.05)
