"""A real head whose file lies about its numbers or units gives the load of the head as it is."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.cli.main import main

pytestmark = pytest.mark.slow

FLAIR = "openms-raw/sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz"


def run(folder: Path, images: dict[str, nib.Nifti1Image], *options: str) -> dict[str, dict]:
    """Process FLAIRs of participants of these names; return their stats."""
    bids = folder / "bids"
    for name, image in images.items():
        path = bids / f"sub-{name}" / "anat" / f"sub-{name}_FLAIR.nii.gz"
        path.parent.mkdir(parents=True)
        image.to_filename(path)
    about = {"Name": "heads", "BIDSVersion": "1.10.0"}
    (bids / "dataset_description.json").write_text(json.dumps(about))
    assert main([str(bids), str(folder / "out"), "participant", *options]) == 0
    return {
        name: json.loads(next((folder / "out").glob(f"sub-{name}/anat/*_stats.json")).read_text())
        for name in images
    }


def made(change: Callable[[np.ndarray], np.ndarray], flair: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(change(flair.get_fdata(dtype=np.float32)), flair.affine)


def in_units(flair: nib.Nifti1Image, unit: str, mm: float) -> nib.Nifti1Image:
    affine = flair.affine.copy()
    affine[:3] /= mm
    image = nib.Nifti1Image(flair.get_fdata(dtype=np.float32), affine)
    image.header.set_xyzt_units(unit)
    return image


def store_as_signed(data: np.ndarray) -> np.ndarray:
    return (data * (65_535 / data.max())).astype(np.uint16).view(np.int16)


@pytest.fixture(scope="module")
def flair(shared_data: Path) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_filename(shared_data / FLAIR)


@pytest.fixture(scope="module")
def heads(flair: nib.Nifti1Image, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    images = {
        "plain": flair,
        "minus": made(lambda data: data - 400, flair),
        "scores": made(lambda data: (data - data.mean()) / data.std(), flair),
        "signed": made(store_as_signed, flair),
        "micron": in_units(flair, "micron", 0.001),
        "meter": in_units(flair, "meter", 1000),
    }
    folder = tmp_path_factory.mktemp("heads")
    return folder, run(folder, images)


@pytest.fixture(scope="module")
def brains(heads: tuple[Path, dict], flair: nib.Nifti1Image) -> dict[str, nib.Nifti1Image]:
    folder, _ = heads
    mask = nib.Nifti1Image.from_filename(
        folder / "out/sub-plain/anat/sub-plain_space-FLAIR_desc-brain_mask.nii.gz"
    )
    brain = np.asarray(mask.dataobj) > 0

    def score(data: np.ndarray) -> np.ndarray:
        return np.where(brain, (data - data[brain].mean()) / data[brain].std(), 0)

    return {
        "brain": made(lambda data: np.where(brain, data, 0), flair),
        "brainscores": made(score, flair),
    }


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("minus", "400 was added"),
        ("scores", "was added"),
        ("signed", "stored as signed; that was undone"),
        ("micron", None),
        ("meter", None),
    ],
)
def test_a_head_gives_the_load_of_the_head_as_it_is(
    heads: tuple[Path, dict], name: str, warning: str | None
) -> None:
    _, stats = heads
    assert stats[name]["load_ml"] == pytest.approx(stats["plain"]["load_ml"], rel=0.05)
    assert stats[name]["icv_ml"] == pytest.approx(stats["plain"]["icv_ml"], rel=0.01)
    said = [text for text in stats[name]["warnings"] if f"sub-{name}" in text]
    assert len(said) == (warning is not None)
    assert warning is None or warning in said[0]


@pytest.mark.parametrize("option", ["auto", "skip"])
def test_a_brain_gives_the_load_of_the_head(
    heads: tuple[Path, dict], brains: dict[str, nib.Nifti1Image], option: str, tmp_path: Path
) -> None:
    _, stats = heads
    found = run(tmp_path, brains, "--skull-strip", option)
    for name in brains:
        assert found[name]["load_ml"] == pytest.approx(stats["plain"]["load_ml"], rel=0.05)
        assert found[name]["icv_ml"] == pytest.approx(stats["plain"]["icv_ml"], rel=0.02)
    assert any("a part of the brain" in text for text in found["brainscores"]["warnings"])
    if option == "auto":
        assert any("without a skull" in text for text in found["brain"]["warnings"])
