"""Scans on the network grid, kept on disk for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from cascade_bids.bids.scan import Scan, name_participant
from cascade_bids.errors import ScanError
from cascade_bids.lesions.spheres import lesion_spheres
from cascade_bids.models.architectures.patch_classifier import PatchReader
from cascade_bids.models.network import Volume
from cascade_bids.preprocess.coordinates import template_affine, template_coordinates

BORDER = 8
"""Zeros around a stored volume, so that patches of up to 17 voxels are read without a copy."""


@dataclass(frozen=True)
class Case:
    """One labelled scan on the network grid; its arrays stay on disk until they are read."""

    scan: Scan
    """Whose it is; its images are not needed any more."""
    folder: Path
    """Where its arrays are."""
    contrasts: tuple[str, ...]
    """First channels; anatomical coordinates may follow."""
    source: str = ""
    """Name of its labelled dataset, of which the labels of participants are; else empty."""

    @property
    def label(self) -> str:
        """Name of the scan, in its dataset if that has a name.

        Examples
        --------
        >>> Case(Scan("07", "1", None), Path(), (), "openms").label
        'openms/sub-07_ses-1'
        """
        return f"{self.source}/{self.scan.label}" if self.source else self.scan.label

    @property
    def participant(self) -> str:
        """Whose scan it is, see `bids.scan.name_participant`."""
        return name_participant(self.source, self.scan.subject)

    @property
    def padded(self) -> Tensor:
        """(C, X + 2 B, Y + 2 B, Z + 2 B) float32, `channels` with `BORDER` zeros around."""
        # Copy-on-write, since PyTorch warns of arrays that it must not write to.
        return torch.from_numpy(np.load(self.folder / "volume.npy", mmap_mode="c"))

    @property
    def channels(self) -> Tensor:
        """(C, X, Y, Z) float32: the normalised contrasts, and the anatomical coordinates if any."""
        inner = slice(BORDER, -BORDER)
        return self.padded[:, inner, inner, inner]

    @property
    def flair(self) -> np.ndarray:
        """(X, Y, Z) float32, the normalised FLAIR."""
        return self.channels[self.contrasts.index("FLAIR")].numpy()

    @property
    def brain(self) -> np.ndarray:
        """(X, Y, Z) bool."""
        return np.load(self.folder / "brain.npy", mmap_mode="r")

    @property
    def lesions(self) -> np.ndarray:
        """(X, Y, Z) bool, those in the brain."""
        return np.load(self.folder / "lesions.npy", mmap_mode="r")

    @property
    def share(self) -> np.ndarray:
        """(X, Y, Z) float16, the part of each voxel of the brain that is lesion."""
        return np.load(self.folder / "share.npy", mmap_mode="r")

    @property
    def reference(self) -> np.ndarray:
        """(X, Y, Z) bool on the grid of the FLAIR, the lesions as given, also outside the brain."""
        return np.load(self.folder / "reference.npy", mmap_mode="r")

    @property
    def reference_affine(self) -> np.ndarray:
        """(4, 4) of the grid of the FLAIR."""
        return np.load(self.folder / "reference_affine.npy")

    @property
    def to_flair(self) -> np.ndarray:
        """(4, 4) world of the network grid to that of the FLAIR."""
        return np.load(self.folder / "to_flair.npy")

    @property
    def slice_mm(self) -> float:
        """Longest edge of a voxel of the FLAIR, mm."""
        return float(nib.affines.voxel_sizes(self.reference_affine).max())

    @property
    def spheres(self) -> np.ndarray:
        """(X, Y, Z) bool, see `lesions.spheres.lesion_spheres`."""
        return np.load(self.folder / "spheres.npy", mmap_mode="r")

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) of the network grid."""
        return np.load(self.folder / "affine.npy")

    @property
    def to_template(self) -> np.ndarray:
        """(4, 4) float32, voxel to template, see `template_affine`."""
        return template_affine(np.asarray(self.brain), self.affine)

    @property
    def coordinates(self) -> np.ndarray:
        """(X, Y, Z, 3) float32, where each voxel lies in the template, mm."""
        return template_coordinates(self.brain.shape, self.to_template)

    @property
    def volume(self) -> Volume:
        """The scan as networks see it."""
        return Volume(self.channels, self.flair, np.asarray(self.brain), lambda: self.coordinates)

    def patches(self, size: int) -> PatchReader:
        """Open the volume to read patches of `size` voxels a side around voxels."""
        return PatchReader(self.padded, size, border=BORDER)


def save_case(
    folder: Path,
    images: Sequence[nib.Nifti1Image],
    brain: nib.Nifti1Image,
    share: nib.Nifti1Image | None,
    *,
    anatomy: nib.Nifti1Image | None,
    reference: nib.Nifti1Image | None = None,
    to_flair: np.ndarray | None = None,
) -> None:
    """Store a case's arrays; the volume last, so that it is there only when all is.

    Parameters
    ----------
    folder
        Where.
    images
        (X, Y, Z) normalised images on the network grid, in the order of the channels.
    brain
        Mask on the same grid.
    share
        The part of each voxel that is lesion, on the same grid, 0 to 1; 0 everywhere in a scan
        without lesions, and None in one that nobody labelled.
    anatomy
        (X, Y, Z, 6) maps on the same grid that become the last channels, or None.
    reference
        Lesion mask on the grid of the FLAIR; that of `share` where this is the network grid.
    to_flair
        (4, 4) world of the network grid to that of the FLAIR; None where both are the same.

    Raises
    ------
    ScanError
        When there are lesion voxels, but none in the brain.
    """
    inside = np.asarray(brain.dataobj) > 0
    given = np.zeros(inside.shape) if share is None else np.asarray(share.dataobj, np.float32)
    part = np.where(inside, given, 0)
    if given.any() and not part.any():
        raise ScanError("the lesion mask has no voxel in the brain; does it lie on the FLAIR?")
    lesions = part >= 0.5
    scored = reference or nib.Nifti1Image((given >= 0.5).astype(np.uint8), brain.affine)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "brain.npy", inside)
    np.save(folder / "share.npy", part.astype(np.float16))
    np.save(folder / "lesions.npy", lesions)
    np.save(folder / "reference.npy", np.asarray(scored.dataobj) > 0)
    np.save(folder / "reference_affine.npy", scored.affine)
    np.save(folder / "to_flair.npy", np.eye(4) if to_flair is None else to_flair)
    np.save(folder / "spheres.npy", lesion_spheres(lesions, nib.affines.voxel_sizes(brain.affine)))
    np.save(folder / "affine.npy", brain.affine)
    stacked = np.stack([np.asarray(image.dataobj, dtype=np.float32) for image in images])
    if anatomy is not None:
        maps = np.asarray(anatomy.dataobj, dtype=np.float32)
        stacked = np.concatenate([stacked, np.moveaxis(maps, -1, 0)])
    np.save(folder / "volume.npy", np.pad(stacked, [(0, 0), *[(BORDER, BORDER)] * 3]))
