"""The mosaic: what is drawn, where, how large, and the same on every run."""

import re
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.errors import ScanError
from cascade_bids.report.panels import STYLES, lesion_mosaic

SVG = "{http://www.w3.org/2000/svg}"
SHAPE, SPACING_MM = (60, 72, 30), (2.0, 2.0, 5.0)
LESION = (slice(10, 16), slice(50, 56), slice(17, 18))
"""On the left and in the front, in one axial slice."""


def _images():
    """A head of noise with a box for a brain in it and one lesion, RAS+."""
    flair = np.random.default_rng(0).uniform(1, 20, SHAPE).astype(np.float32)
    brain = np.zeros(SHAPE, np.uint8)
    brain[6:54, 6:66, 2:28] = 1
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[LESION] = 1
    flair[brain > 0] += 100
    flair[lesions > 0] += 100
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = -60, -72, -75
    return {
        name: nib.Nifti1Image(data, affine)
        for name, data in (("flair", flair), ("lesions", lesions), ("brain", brain))
    }


def _saved(folder: Path, images) -> dict[str, Path]:
    for name, image in images.items():
        nib.save(image, folder / f"{name}.nii.gz")
    return {name: folder / f"{name}.nii.gz" for name in images}


def _draw(folder: Path, paths: dict[str, Path], name: str = "mosaic.svg"):
    out = folder / "figures" / name
    lesion_mosaic(paths["flair"], out, lesions=paths.get("lesions"), brain_mask=paths.get("brain"))
    return ElementTree.parse(out).getroot()


def _outlines(tile, label):
    return [
        path.get("d") for path in tile.iter(f"{SVG}path") if path.get("stroke") == STYLES[label][0]
    ]


def _centre(path):
    points = np.array(re.findall(r"[-\d.]+", path), float).reshape(-1, 2)
    return (points.min(axis=0) + points.max(axis=0)) / 2


def test_lesion_is_drawn_on_its_side_in_every_orientation(tmp_path, reorient):
    images = {name: reorient(image) for name, image in _images().items()}
    root = _draw(tmp_path, _saved(tmp_path, images))
    axial = root.findall(f"{SVG}svg")[:24]
    drawn = [(tile, path) for tile in axial for path in _outlines(tile, "lesions")]
    assert len(drawn) == 1  # the one slice with the lesion is among the 24 of 26
    tile, path = drawn[0]
    # The crop keeps 10 mm around the brain: it starts at voxels 1, 1, 0.
    left_mm, top_mm = _centre(path)
    assert left_mm == pytest.approx((13 - 1) * 2, abs=0.3)
    assert float(tile.get("height")) - top_mm == pytest.approx((53 - 1) * 2, abs=0.3)


def test_no_side_is_named_where_the_header_tells_none(tmp_path):
    paths = _saved(tmp_path, _images())
    texts = {}
    for known in (True, False):
        out = tmp_path / "x.svg"
        masks = {"lesions": paths["lesions"], "brain_mask": paths["brain"]}
        lesion_mosaic(paths["flair"], out, **masks, orientation_known=known)
        texts[known] = {text.text for text in ElementTree.parse(out).iter(f"{SVG}text")}
    assert {"L", "R", "A", "P"} <= texts[True]
    assert not {"L", "R", "A", "P"} & texts[False]
    assert not any("left" in text for text in texts[False])
    assert any("does not tell the orientation" in text for text in texts[False])


def test_tiles_have_the_size_of_the_head(tmp_path):
    root = _draw(tmp_path, _saved(tmp_path, _images()))
    tiles = root.findall(f"{SVG}svg")
    sizes = {(float(tile.get("width")), float(tile.get("height"))) for tile in tiles}
    x, y, z = 58 * 2, 70 * 2, 30 * 5
    assert sizes == {(x, y), (y, z), (x, z)}
    assert len(tiles) == 24 + 6
    assert all(_outlines(tile, "brain mask") for tile in tiles)


def test_tiles_lie_on_the_page_and_apart(tmp_path):
    root = _draw(tmp_path, _saved(tmp_path, _images()))
    _, _, width, height = map(float, root.get("viewBox").split())
    boxes = np.array(
        [
            [float(tile.get(k)) for k in ("x", "y", "width", "height")]
            for tile in root.iter(f"{SVG}svg")
            if tile.get("x")
        ]
    )
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= [width + 0.1, height]).all()
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            apart = (one[:2] >= other[:2] + other[2:]) | (other[:2] >= one[:2] + one[2:])
            assert apart.any()


@pytest.mark.parametrize("absent", [["lesions"], ["brain"], ["lesions", "brain"]])
def test_masks_may_be_absent(tmp_path, absent):
    paths = _saved(tmp_path, _images())
    root = _draw(tmp_path, {name: path for name, path in paths.items() if name not in absent})
    text = [element.text for element in root.iter(f"{SVG}text")]
    assert ("lesions" in text) == ("lesions" not in absent)
    assert ("brain mask" in text) == ("brain" not in absent)


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_images_without_content_and_empty_masks_are_drawn(tmp_path, value):
    grid = nib.Nifti1Image(np.full((8, 9, 4), value, np.float32), np.eye(4))
    empty = nib.Nifti1Image(np.zeros((8, 9, 4), np.uint8), np.eye(4))
    paths = _saved(tmp_path, {"flair": grid, "lesions": empty, "brain": empty})
    assert len(_draw(tmp_path, paths).findall(f"{SVG}svg")) == 4 + 6


def test_same_input_gives_the_same_bytes_and_nothing_else_is_left(tmp_path):
    paths = _saved(tmp_path, _images())
    _draw(tmp_path, paths, "a.svg")
    _draw(tmp_path, paths, "b.svg")
    folder = tmp_path / "figures"
    assert (folder / "a.svg").read_bytes() == (folder / "b.svg").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["a.svg", "b.svg"]


def test_large_images_stay_small_on_disk(tmp_path):
    flair = np.random.default_rng(0).normal(100, 5, (320, 320, 26)).astype(np.float32)
    paths = _saved(tmp_path, {"flair": nib.Nifti1Image(flair, np.diag([0.5, 0.5, 5, 1]))})
    _draw(tmp_path, paths)  # nothing but noise and no background: the worst case
    assert (tmp_path / "figures" / "mosaic.svg").stat().st_size < 1_500_000


def test_mask_on_another_grid_is_refused(tmp_path):
    images = _images()
    shifted = images["brain"].affine.copy()
    shifted[0, 3] += 2
    images["brain"] = nib.Nifti1Image(np.asanyarray(images["brain"].dataobj), shifted)
    with pytest.raises(ScanError, match=r"brain\.nii\.gz is not on the grid of"):
        _draw(tmp_path, _saved(tmp_path, images))


def _cut(content):
    return content[:2000]


def _scratched(content):
    return content[:100] + b"\xff" * 200 + content[300:]


def _foreign(content):
    return b"this is no image"


@pytest.mark.parametrize("damage", [_cut, _scratched, _foreign])
def test_damaged_image_is_named(tmp_path, damage):
    paths = _saved(tmp_path, _images())
    paths["flair"].write_bytes(damage(paths["flair"].read_bytes()))
    with pytest.raises(ScanError, match=r"flair\.nii\.gz can't be read"):
        _draw(tmp_path, paths)
