"""Pair the predicted masks with the reference masks, and load both on one grid."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from cascade_bids.bids.index import Image, index_images
from cascade_bids.bids.scan import Scan
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.preprocess.load import load_image

_TOLERATED_VOXELS = 0.1
"""Largest distance of the corners of two grids that count as one, in voxel sizes."""


@dataclass(frozen=True)
class Masks:
    """The lesion masks of a dataset, reference or predicted, and their probability maps."""

    root: Path
    """Root of the dataset, absolute."""
    masks: tuple[Image, ...]
    """Its images ``label-lesion_mask``, in natural order."""
    maps: tuple[Image, ...]
    """Its images ``label-lesion_probseg``."""


@dataclass(frozen=True)
class Pair:
    """The files of one scan that are compared."""

    scan: Scan
    """The scan, with the participant, session and run of the reference."""
    reference: Path
    """Reference mask."""
    prediction: Path
    """Predicted mask."""
    probability: Path | None
    """Probability map of the prediction, if there is one."""


@dataclass(frozen=True)
class Volumes:
    """The voxels of one scan, on one grid in RAS+."""

    prediction: np.ndarray
    """(X, Y, Z) bool."""
    reference: np.ndarray
    """(X, Y, Z) bool."""
    probability: np.ndarray | None
    """(X, Y, Z) float32 in [0, 1], if there is a map."""
    spacing_mm: tuple[float, float, float]
    """Voxel size along each axis, mm."""


def find_masks(root: Path) -> Masks:
    """Find the lesion masks of a dataset.

    Parameters
    ----------
    root
        Root of a BIDS dataset, raw or derivative.

    Returns
    -------
    Masks
        All masks and probability maps with ``label-lesion``.

    Raises
    ------
    UsageError
        If the folder does not exist or holds no lesion mask.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder. Give the root of a BIDS dataset.")
    images, _ = index_images(
        root.absolute(),
        subjects=None,
        validate=False,
        database_dir=None,
        suffixes=("mask", "probseg"),
    )
    lesions = [image for image in images if image.entities.get("label") == "lesion"]
    masks, maps = (
        tuple(image for image in lesions if image.entities["suffix"] == suffix)
        for suffix in ("mask", "probseg")
    )
    if not masks:
        raise UsageError(
            f"{root} holds no sub-X/[ses-Y/]anat/…_label-lesion_mask.nii.gz; give the root of a "
            "dataset with lesion masks."
        )
    return Masks(root.absolute(), masks, maps)


def list_scans(references: Masks) -> list[Scan]:
    """List the scans that have a reference mask, each once, in natural order.

    Parameters
    ----------
    references
        The reference masks.

    Returns
    -------
    list of Scan
        Participant, session and run of each.
    """
    return list({scan.label: scan for scan in map(_scan, references.masks)}.values())


def pair_scan(scan: Scan, references: Masks, predictions: Masks) -> Pair:
    """Choose the reference and the prediction of a scan.

    Both must be of its participant and session. If both have a run, it must be the same; an image
    without a run matches any. Of several references, those in ``space-FLAIR`` are chosen; of
    several predictions, those in the space of the reference, else those in ``space-FLAIR``; of the
    remaining ones of both, those without ``desc``.

    Parameters
    ----------
    scan
        One of `list_scans`.
    references, predictions
        The masks to choose from.

    Returns
    -------
    Pair
        The files.

    Raises
    ------
    ScanError
        If there is no prediction, or several files remain.
    """
    ours = [image for image in references.masks if _scan(image) == scan]
    reference = _single(scan, _prefer(_prefer(ours, space="FLAIR"), desc=None), references.root)
    found = _of_scan(scan, predictions.masks)
    if not found:
        raise ScanError(
            f"{predictions.root} holds no lesion mask for the reference {reference.path}; segment "
            "the scan and evaluate again"
        )
    found = _prefer(_prefer(found, space=reference.entities.get("space")), space="FLAIR")
    prediction = _single(scan, _prefer(found, desc=None), predictions.root)
    maps = [image for image in predictions.maps if _stem(image) == _stem(prediction)]
    return Pair(scan, reference.path, prediction.path, maps[0].path if maps else None)


def unused_scans(scans: Iterable[Scan], predictions: Masks) -> list[str]:
    """List the predicted scans without a reference.

    Parameters
    ----------
    scans
        Scans with a reference.
    predictions
        The predicted masks.

    Returns
    -------
    list of str
        Their labels, in natural order.
    """
    used = [image for scan in scans for image in _of_scan(scan, predictions.masks)]
    return list({_scan(i).label: None for i in predictions.masks if i not in used})


def read_pair(pair: Pair) -> Volumes:
    """Read the images of a scan and reorient them to RAS+.

    Parameters
    ----------
    pair
        The files.

    Returns
    -------
    Volumes
        Their voxels.

    Raises
    ------
    ScanError
        If a file is damaged, is not a mask or probability map, or is not on the grid of the
        reference.
    """
    reference = _read(pair.reference)
    prediction = _read(pair.prediction)
    _require_one_grid(prediction, pair.prediction, reference, pair.reference)
    probability = None
    if pair.probability is not None:
        image = _read(pair.probability)
        _require_one_grid(image, pair.probability, reference, pair.reference)
        probability = np.asarray(image.dataobj, dtype=np.float32)
        if not ((probability >= 0) & (probability <= 1)).all():
            raise ScanError(
                f"{pair.probability} holds NaN or values outside 0 to 1, so it is no probability "
                "map; correct it or take it away"
            )
    x, y, z = (float(size) for size in voxel_sizes(reference.affine))
    return Volumes(
        _mask(prediction, pair.prediction),
        _mask(reference, pair.reference),
        probability,
        (x, y, z),
    )


def _scan(image: Image) -> Scan:
    entities = image.entities
    return Scan(entities["subject"], entities.get("session"), entities.get("run"))


def _stem(image: Image) -> str:
    """Return the name up to the suffix, which a mask and its probability map share."""
    return image.name.rpartition("_")[0]


def _of_scan(scan: Scan, images: Sequence[Image]) -> list[Image]:
    """Return the images of a scan: those of its run or, if there are none, those without a run."""
    session = (scan.subject, scan.session)
    found = [image for image in images if (_scan(image).subject, _scan(image).session) == session]
    if scan.run is None:
        return _prefer(found, run=None)
    run = int(scan.run)
    same = [image for image in found if int(image.entities.get("run", -1)) == run]
    return same or [image for image in found if "run" not in image.entities]


def _prefer(images: list[Image], **entity: str | None) -> list[Image]:
    """Return the images with this value of an entity (None: without it), or all if none has it."""
    ((name, value),) = entity.items()
    return [image for image in images if image.entities.get(name) == value] or images


def _single(scan: Scan, images: list[Image], root: Path) -> Image:
    if len(images) > 1:
        names = ", ".join(image.name for image in images)
        raise ScanError(
            f"{root} holds several lesion masks of {scan.label} ({names}) and none of the rules "
            "tells which to take; leave one"
        )
    return images[0]


def _read(path: Path) -> nib.Nifti1Image:
    image = nib.squeeze_image(load_image(path))
    if image.ndim != 3:
        raise ScanError(f"{path} has {image.ndim} axes; an image of 3 is needed")
    try:
        values = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise ScanError(f"{path} is damaged ({error}); copy or make it again") from error
    return nib.as_closest_canonical(nib.Nifti1Image(values, image.affine))


def _mask(image: nib.Nifti1Image, path: Path) -> np.ndarray:
    values = np.asarray(image.dataobj)
    inside = values != 0
    marked = values[inside]
    if marked.size and not (marked == marked[0]).all():
        raise ScanError(
            f"{path} holds more than two values, so it is no mask; lesions need one value, all "
            "else 0"
        )
    return inside


def _require_one_grid(
    image: nib.Nifti1Image, path: Path, reference: nib.Nifti1Image, reference_path: Path
) -> None:
    corners = np.array(list(product(*((0, size - 1) for size in reference.shape))))
    apart = apply_affine(image.affine, corners) - apply_affine(reference.affine, corners)
    most = _TOLERATED_VOXELS * voxel_sizes(reference.affine).min()
    if image.shape != reference.shape or not (np.linalg.norm(apart, axis=1) <= most).all():
        raise ScanError(
            f"{path} is not on the grid of {reference_path}: the shape or the place in the world "
            "differs; resample one onto the other first"
        )
