"""Odd and damaged voxels."""

from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_to_output
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..tiny_heads import T1W_FROM_FLAIR
from .heads import Case, draw_head
from .rows import Named, Right, Row, Told, check_tiny, parametrize


def broken(*words: str) -> Named:
    return Named(("sub-01_FLAIR", *words))


def as_type(dtype: object) -> partial:
    return partial(Case.change, function=lambda data: data.astype(dtype))


def puncture(value: float, data: np.ndarray) -> np.ndarray:
    """Set some voxels of the air to a value."""
    data = data.astype(np.float32)
    data[0, ::3] = value
    return data


def colour(case: Case) -> None:
    data, affine = case.load()
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    case.save(np.repeat((data // 4).astype(np.uint8), 3).view(kind).reshape(data.shape), affine)


def store_as_signed(data: np.ndarray) -> np.ndarray:
    data = np.maximum(data, 0)
    return (data * (65_535 / data.max())).astype(np.uint16).view(np.int16)


def refine(case: Case, axes: tuple[int, ...]) -> None:
    """Make voxels of 0.4 mm along some axes."""
    data, affine = case.load()
    affine = affine.copy()
    for axis in axes:
        zoom = float(np.linalg.norm(affine[:3, axis]))
        factor = round(zoom / 0.4)
        data = np.repeat(data, factor, axis=axis)
        # The first voxel's outer edge stays where it was.
        affine[:3, 3] -= affine[:3, axis] * (factor - 1) / factor / 2
        affine[:3, axis] /= factor
    case.save(data, affine)


def coarsen(case: Case) -> None:
    image = nib.Nifti1Image.from_filename(case.flair)
    coarse = resample_to_output(image, (6, 6, 6), order=0)
    case.save(np.asarray(coarse.dataobj).astype(np.int16), coarse.affine)


def cut(case: Case, axis: int, start: float, stop: float) -> None:
    """Keep a part of the image along an axis of RAS+, from and to a fraction of it."""
    image = nib.as_closest_canonical(nib.Nifti1Image(*case.load()))
    data, affine = np.asarray(image.dataobj), image.affine
    first, last = (round(part * data.shape[axis]) for part in (start, stop))
    kept = data.take(range(first, last), axis=axis)
    offset = np.zeros(3)
    offset[axis] = first
    case.save(kept, affine @ nib.affines.from_matvec(np.eye(3), offset))


def add_neck(case: Case) -> None:
    """Add neck and shoulders below the head: 200 mm of tissue nearly as bright as the brain."""
    data, affine = case.load()
    tissue = 0.37 * np.percentile(data, 99)
    below = round(200 / float(np.linalg.norm(affine[:3, 2])))
    body = np.zeros((*data.shape[:2], below), data.dtype)
    width, depth = (slice(size // 4, -(size // 4)) for size in data.shape[:2])
    body[width, depth] = tissue
    body[2:-2, depth, : below // 2] = tissue
    offset = nib.affines.from_matvec(np.eye(3), [0, 0, -below])
    case.save(np.concatenate([body, data], axis=2), affine @ offset)


def pad_to_512(case: Case) -> None:
    data, affine = case.load()
    before = [(512 - size) // 2 for size in data.shape]
    both = [(low, 512 - size - low) for low, size in zip(before, data.shape, strict=True)]
    offset = nib.affines.from_matvec(np.eye(3), [-low for low in before])
    case.save(np.pad(data, both), affine @ offset)


def turn(case: Case, world: np.ndarray) -> None:
    """Turn the head in the world."""
    data, affine = case.load()
    case.save(data, world @ affine)


def make_noise(case: Case) -> None:
    data, _ = case.load()
    noise = np.random.default_rng(0).normal(300, 60, data.shape)
    case.save(np.maximum(noise, 0).astype(np.int16))


def add_noise(case: Case) -> None:
    data, _ = case.load()
    noise = np.random.default_rng(0).normal(0, 0.3 * np.percentile(data, 99), data.shape)
    case.save(np.maximum(data + noise, 0).astype(np.int16))


def blur(case: Case) -> None:
    data, affine = case.load()
    sigma = 12 / nib.affines.voxel_sizes(affine)
    case.save(ndimage.gaussian_filter(data.astype(np.float32), sigma))


def dim(data: np.ndarray) -> np.ndarray:
    """Dim every other slice; in cubic voxels, the first axis is taken for that of the slices."""
    data = data.copy()
    data[::2] = 0.7 * data[::2]
    return data


def add_ghost(case: Case) -> None:
    data, _ = case.load()
    ghost = 0.5 * np.roll(data, data.shape[1] // 2, axis=1)
    case.save(np.maximum(data, ghost).astype(np.int16))


def empty_half(data: np.ndarray) -> np.ndarray:
    data = data.copy()
    data[: data.shape[0] // 2] = 0
    return data


def empty_top(data: np.ndarray) -> np.ndarray:
    data = data.copy()
    data[:, :, data.shape[2] * 3 // 4 :] = 0
    return data


def swap(case: Case) -> None:
    (flair, flair_affine), (t1w, t1w_affine) = case.load(), case.load("T1w")
    case.save(t1w, t1w_affine)
    case.save(flair, flair_affine, "T1w")


def misplace(case: Case) -> None:
    """Show another head in the T1w: turned and mirrored, where no registration can help."""
    data, affine = case.load("T1w")
    case.save(np.roll(data[::-1, :, ::-1], 3, axis=1), affine, "T1w")


TURNED = np.eye(4)
TURNED[:3, :3] = Rotation.from_rotvec(np.deg2rad(30) * np.array([1, 2, 2]) / 3).as_matrix()
UPSIDE_DOWN = np.diag([-1.0, 1, -1, 1])

CHANGES = {
    "two volumes": lambda data: np.stack([data, data], -1),
    "many volumes": lambda data: np.stack([data] * 30, -1),
    "one slice": lambda data: data[:, :, 9:10],
    "seven slices": lambda data: data[:, :, 5:12],
    "2D": lambda data: data[:, :, 9],
    "1D": lambda data: data[:, 9, 9],
    "fourth axis before the third": lambda data: data[:, :, None, :],
    "five axes": lambda data: np.stack([data, data], -1)[:, :, :, None, :],
}

ROWS = [
    *(
        Row(name, partial(Case.change, function=change), broken("3D|axes"))
        for name, change in CHANGES.items()
    ),
    Row(
        "axes of length one behind",
        partial(Case.change, function=lambda data: data[..., None, None]),
        Right(),
        full=True,
    ),
    *(
        Row(
            f"all {value}",
            partial(
                Case.change,
                function=lambda data, value=value: np.full(data.shape, value, np.float32),
            ),
            broken(word),
        )
        for value, word in (
            (np.nan, "no finite"),
            (np.inf, "no finite"),
            (-np.inf, "no finite"),
            (0.0, "constant"),
            (7.0, "constant"),
        )
    ),
    Row(
        "constant inside the brain",
        partial(Case.change, function=lambda data: np.where(data > 130, 300, data)),
        broken("constant inside the brain"),
    ),
    Row(
        "all negative or zero",
        partial(Case.change, function=lambda data: -np.maximum(data, 0)),
        broken("no positive"),
    ),
    Row(
        "some NaN",
        partial(Case.change, function=partial(puncture, np.nan)),
        Right(("NaN|infinite",)),
        full=True,
    ),
    Row(
        "some infinite",
        partial(Case.change, function=partial(puncture, np.inf)),
        Right(("NaN|infinite",)),
    ),
    *(
        Row(np.dtype(kind).name, as_type(kind), Right())
        for kind in (np.int32, np.int64, np.uint16, np.uint64, np.float32, np.float64)
    ),
    Row(
        "8 bits",
        partial(
            Case.change, function=lambda data: (np.maximum(data, 0) // 4).clip(0, 255).astype("u1")
        ),
        Right(),
    ),
    Row("RGB", colour, broken("plain numbers", "convert")),
    Row("complex", as_type(np.complex64), broken("plain numbers", "convert")),
    # A tiny brain has too few neighbours that differ by a wrap-around.
    Row(
        "unsigned stored as signed",
        partial(Case.change, function=store_as_signed),
        Right(("stored as signed",)),
        tiny=False,
        full=True,
    ),
    Row(
        "400 less",
        partial(Case.change, function=lambda data: data - np.int16(400)),
        Right(("was added",)),
        full=True,
    ),
    Row(
        "z-scores",
        partial(
            Case.change,
            function=lambda data: ((data - data.mean()) / data.std()).astype(np.float32),
        ),
        Right(("was added",)),
        full=True,
    ),
    *(
        Row(
            f"a signal of {scale:g}",
            partial(
                Case.change,
                function=lambda data, scale=scale: (data * np.float64(scale)).astype(np.float32),
            ),
            Right(),
            full=True,
        )
        for scale in (1e-9, 1e9)
    ),
    Row("voxels of 0.4 mm", partial(refine, axes=(0, 1)), Right(), tiny=False, full=True),
    # The edges of a lesion of a few voxels lie elsewhere in voxels of other sizes.
    Row(
        "voxels of 0.4 mm along an axis",
        partial(refine, axes=(0,)),
        Right(("hardly any noise",), within=0.25),
    ),
    Row("voxels of 6 mm", coarsen, Right(within=0.25)),
    Row("neck and shoulders", add_neck, Right(), full=True),
    Row("512³", pad_to_512, Right(), tiny=False, full=True),
    Row("turned by 30°", partial(turn, world=TURNED), Right(), world=TURNED, full=True),
    Row(
        "upside-down",
        partial(turn, world=UPSIDE_DOWN),
        Told(("turned by 180°|does not fit the template",)),
        world=UPSIDE_DOWN,
        full=True,
    ),
    Row("noise only", make_noise, Told(("no usual size|no brain",))),
    Row("noisy", add_noise, Told(("noisy",)), full=True),
    Row("blurred", blur, Told(("hardly any noise",))),
    Row(
        "every other slice darker", partial(Case.change, function=dim), Told(("slices .* differ",))
    ),
    Row("ghost", add_ghost, Told(("ghost",))),
    Row("half a head, set to 0", partial(Case.change, function=empty_half), Told(("One half",))),
    Row("half a head", partial(cut, axis=0, start=0, stop=0.5), Told(("right border",)), full=True),
    Row("no top", partial(cut, axis=2, start=0, stop=0.75), Told(("superior border",)), full=True),
    Row("top set to 0", partial(Case.change, function=empty_top), Told(("superior border",))),
    Row(
        "no lower part",
        partial(cut, axis=2, start=0.45, stop=1),
        Told(("inferior border",)),
        full=True,
    ),
    Row(
        "T1w given as FLAIR",
        lambda case: draw_head("T1w").to_filename(case.flair),
        Told(("cortex is darker",)),
        world=T1W_FROM_FLAIR,
    ),
    Row(
        "T2w given as FLAIR",
        lambda case: draw_head("T2w").to_filename(case.flair),
        Told(("ventricles are not dark",)),
        world=T1W_FROM_FLAIR,
    ),
    Row(
        "FLAIR and T1w swapped",
        swap,
        Told(("on a T1w",)),
        contrasts=("FLAIR", "T1w"),
        world=T1W_FROM_FLAIR,
        full=True,
    ),
    Row(
        "T1w of another head",
        misplace,
        Told(("T1w does not match the FLAIR",)),
        contrasts=("FLAIR", "T1w"),
    ),
]


@parametrize(ROWS)
def test_odd_voxels(row: Row, tmp_path: Path) -> None:
    check_tiny(row, tmp_path)
