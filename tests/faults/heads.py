"""Sound heads that the rows of the table are made from: tiny ones, and phantoms of full size."""

import contextlib
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cascade_bids.lesions.location import CORTEX, VENTRICLE, WHITE_MATTER, load_atlas
from cascade_bids.models import brain_extraction

from ..tiny_heads import T1W_FROM_FLAIR, image_path, stand_ins

SHAPE = (24, 28, 22)
AFFINE = nib.affines.from_matvec(np.diag([8.0, 8.0, 8.0]), [-92, -126, -83])
LESION = (slice(14, 17), slice(16, 20), slice(11, 14))
LESION_SIGNAL = 900
SIGNAL = {
    "FLAIR": {WHITE_MATTER: 300.0, CORTEX: 330.0, VENTRICLE: 160.0},
    "T1w": {WHITE_MATTER: 330.0, CORTEX: 270.0, VENTRICLE: 160.0},
    "T2w": {WHITE_MATTER: 270.0, CORTEX: 300.0, VENTRICLE: 450.0},
}
OTHER_TISSUE, SCALP = 300.0, 100.0
BRIGHT = 0.4
"""Brain is brighter than this part of the 99th percentile, and scalp is darker."""


@cache
def draw_head(contrast: str, seed: int = 0) -> nib.Nifti1Image:
    """Draw the template's brain within a scalp and, on FLAIR, a bright lesion."""
    atlas = load_atlas()
    matrix = np.linalg.inv(atlas.affine) @ AFFINE
    regions = ndimage.affine_transform(
        np.asarray(atlas.dataobj), matrix[:3, :3], matrix[:3, 3], SHAPE, order=0
    )
    signal = SIGNAL[contrast]
    data = np.where(regions > 0, OTHER_TISSUE, 0.0)
    for region, value in signal.items():
        data[regions == region] = value
    scalp = ndimage.binary_dilation(regions > 0, iterations=2) & (regions == 0)
    data[scalp] = SCALP
    if contrast == "FLAIR":
        data[LESION] = LESION_SIGNAL
    data += np.random.default_rng(seed).normal(0, 5, SHAPE)
    affine = AFFINE if contrast == "FLAIR" else T1W_FROM_FLAIR @ AFFINE
    image = nib.Nifti1Image(np.rint(np.maximum(data, 0)).astype(np.int16), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return image


@contextlib.contextmanager
def quick(world: np.ndarray | None = None) -> Iterator[None]:
    """Replace what is slow, as `stand_ins`, for images of any scale."""

    def extract(image: nib.Nifti1Image, card: object, device: object) -> nib.Nifti1Image:
        data = np.asarray(image.dataobj)
        bright = (data > BRIGHT * np.percentile(data, 99)).astype(np.float32)
        return brain_extraction.brain_mask(nib.Nifti1Image(bright, image.affine))

    with stand_ins(world), pytest.MonkeyPatch.context() as patch:
        patch.setattr(brain_extraction, "extract_brain", extract)
        yield


@dataclass
class Case:
    """A small dataset that a row spoils: sub-01 is spoilt, others stay as they are."""

    folder: Path
    """Everything of the row lies in here."""

    @property
    def bids(self) -> Path:
        return self.folder / "bids"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def flair(self) -> Path:
        return self.image("FLAIR")

    @property
    def anat(self) -> Path:
        return self.flair.parent

    def image(self, contrast: str, label: str = "sub-01") -> Path:
        return image_path(self.bids, label, contrast)

    def load(self, contrast: str = "FLAIR") -> tuple[np.ndarray, np.ndarray]:
        """Return voxels and affine of an image of sub-01."""
        image = nib.Nifti1Image.from_filename(self.image(contrast))
        return np.asanyarray(image.dataobj), image.affine

    def save(
        self,
        data: np.ndarray,
        affine: np.ndarray | None = None,
        contrast: str = "FLAIR",
        dtype: Any = None,
    ) -> None:
        """Write an image of sub-01, by default where it was."""
        affine = self.load(contrast)[1] if affine is None else affine
        nib.Nifti1Image(data, affine, dtype=dtype or data.dtype).to_filename(self.image(contrast))

    def change(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change the voxels of the FLAIR of sub-01."""
        self.save(function(self.load()[0]))

    def edit(self, **fields: Any) -> None:
        """Change fields of the header of the FLAIR of sub-01, the file's other bytes stay.

        A dict gives the value at each index of a field.
        """
        raw = bytearray(gzip.decompress(self.flair.read_bytes()))
        kind = nib.nifti1.header_dtype
        header = np.frombuffer(bytes(raw[: kind.itemsize]), dtype=kind).copy()
        for name, value in fields.items():
            if isinstance(value, dict):
                for index, one in value.items():
                    header[name][0, index] = one
            else:
                header[name] = value
        raw[: kind.itemsize] = header.tobytes()
        self.flair.write_bytes(gzip.compress(bytes(raw), 1, mtime=0))

    def write_json(self, name: str, content: Any) -> None:
        (self.bids / name).write_text(json.dumps(content))


MakeCase = Callable[[Path, tuple[str, ...], tuple[str, ...]], Case]
"""Writes a dataset into a folder, for labels and contrasts."""


def make_tiny(folder: Path, labels: tuple[str, ...], contrasts: tuple[str, ...]) -> Case:
    """Write a dataset of tiny heads."""
    case = Case(folder)
    _describe(case)
    for seed, label in enumerate(labels):
        for contrast in contrasts:
            path = case.image(contrast, label)
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_head(contrast, seed).to_filename(path)
    return case


def make_phantoms(phantom: Path) -> MakeCase:
    """Return a function as `make_tiny`, which copies the first head of a dataset of phantoms."""

    def make(folder: Path, labels: tuple[str, ...], contrasts: tuple[str, ...]) -> Case:
        case = Case(folder)
        _describe(case)
        for label in labels:
            for contrast in contrasts:
                path = case.image(contrast, label)
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(next(phantom.glob(f"sub-*/**/anat/*_{contrast}.nii.gz")), path)
        return case

    return make


def _describe(case: Case) -> None:
    case.bids.mkdir(parents=True)
    about = {"Name": "heads", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    case.write_json("dataset_description.json", about)
