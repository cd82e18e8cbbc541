"""Phantom scans as a BIDS dataset, with the truth as a derivative."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from cascade_bids.config import VERSION
from cascade_bids.errors import UsageError
from cascade_bids.phantom.anatomy import build_anatomy, render
from cascade_bids.phantom.lesions import PLANS, draw_lesion, measure, merge
from cascade_bids.phantom.scanner import (
    FLAIR_FOV_MM,
    T1W_FOV_MM,
    Grid,
    acquire,
    as_image,
    centred_grid,
    degrade,
    head_in_scanner,
    random_rigid,
    random_scale,
)

TRUTH = Path("derivatives/truth")
"""Folder of the truth inside a phantom dataset."""

_GENERATED_BY = [{"Name": "cascade_bids", "Version": VERSION}]
_T1W_SPACING_MM = (1.2, 1.0, 1.0)
# Scanners store axial slices left-handed, and sagittal ones with the slice axis last.
_FLAIR_AXES = "LAS"
_T1W_AXES = "PSR"

_README = """\
A phantom: two synthetic participants with known lesions.

The heads are computed from the MNI152NLin2009aSym template and its tissue maps, with skull, scalp,
partial volume, a bias field and noise; no person was scanned. sub-01 has one scan. sub-02 has a
follow-up (ses-2), in which some lesions have grown and new ones have appeared. The true lesions and
the brain masks are in derivatives/truth.
"""
_TRUTH_README = "The truth of the phantom: lesion and brain masks, and a table of the lesions.\n"
_PARTICIPANTS = pd.DataFrame(
    {"participant_id": ["sub-01", "sub-02"], "age": [34, 47], "sex": ["F", "M"]}
)
_SIDECARS = {
    "FLAIR": {"Modality": "MR", "MRAcquisitionType": "2D", "MagneticFieldStrength": 3},
    "T1w": {"Modality": "MR", "MRAcquisitionType": "3D", "MagneticFieldStrength": 3},
}
_PARTICIPANTS_COLUMNS = {
    "age": {"Description": "Age, synthetic", "Units": "year"},
    "sex": {"Description": "Sex, synthetic", "Levels": {"F": "female", "M": "male"}},
}
_LESION_COLUMNS = {
    "name": {"Description": "Name of the lesion, the same in a follow-up"},
    "volume_mm3": {"Description": "Volume where the fraction of lesion is >= 0.5", "Units": "mm^3"},
    "location": {"Description": "True location of the lesion"},
    **{
        f"centroid_{axis}_mm": {"Description": f"Centroid, {axis} in FLAIR space", "Units": "mm"}
        for axis in "xyz"
    },
}


@dataclass(frozen=True)
class TrueLesion:
    """A lesion of known location and size.

    Attributes
    ----------
    index
        1, 2, …; a lesion has the same number in a follow-up.
    location
        One of periventricular, juxtacortical, infratentorial and deep_white_matter.
    volume_mm3
        Volume where the fraction of lesion is at least one half, sampled finely.
    centroid_mm
        Centroid in world mm (RAS+) of the FLAIR.
    """

    index: int
    location: str
    volume_mm3: float
    centroid_mm: tuple[float, float, float]


@dataclass(frozen=True)
class PhantomScan:
    """A phantom scan and its truth.

    Attributes
    ----------
    subject, session
        Labels without ``sub-`` and ``ses-``; the session is None if there is none.
    flair, t1w
        The images.
    lesion_mask, brain_mask
        The truth on the grid of the FLAIR.
    lesions
        The true lesions.
    icv_ml
        Volume of the brain mask, ml.
    t1w_from_flair
        (4, 4) rigid motion of the head between the images, FLAIR world mm to T1w world mm (RAS+).
    """

    subject: str
    session: str | None
    flair: Path
    t1w: Path
    lesion_mask: Path
    brain_mask: Path
    lesions: tuple[TrueLesion, ...]
    icv_ml: float
    t1w_from_flair: NDArray[np.float64]

    @property
    def label(self) -> str:
        """Name of the scan, such as ``sub-02_ses-1``."""
        return _label(self.subject, self.session)

    @property
    def load_ml(self) -> float:
        """Total volume of the true lesions, ml."""
        return sum(lesion.volume_mm3 for lesion in self.lesions) / 1000


def write_phantom(
    out_dir: Path, *, seed: int = 0, flair_slice_mm: float = 3.0
) -> tuple[PhantomScan, ...]:
    """Write a BIDS dataset of heads with known lesions.

    Parameters
    ----------
    out_dir
        Folder of the dataset; must be new or empty. The dataset appears in it all at once.
    seed
        Seed of the sizes and poses of the heads, the bias fields and the noise. The lesions do not
        depend on it.
    flair_slice_mm
        Slice thickness of the FLAIR, mm.

    Returns
    -------
    tuple of PhantomScan
        ``sub-01``, ``sub-02_ses-1`` and ``sub-02_ses-2``.

    Raises
    ------
    UsageError
        If `out_dir` is not new or empty.
    """
    out_dir = out_dir.resolve()
    if out_dir.exists() and not (out_dir.is_dir() and not any(out_dir.iterdir())):
        raise UsageError(
            f"{out_dir} is not an empty folder, and a phantom replaces nothing: "
            "name a new folder or empty this one."
        )
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=f".{out_dir.name}-") as beside:
        root = Path(beside) / "dataset"
        _write_descriptions(root)
        scans = []
        for subject, session in PLANS:
            simulated = _simulate(subject, session, seed, flair_slice_mm)
            scans.append(_write_scan(simulated, subject, session, root, out_dir))
        root.replace(out_dir)
    return tuple(scans)


@dataclass(frozen=True)
class _Simulated:
    """A scan in memory, before `_write_scan` writes it to files."""

    images: Mapping[str, nib.Nifti1Image]
    lesion_mask: nib.Nifti1Image
    brain_mask: nib.Nifti1Image
    lesions: tuple[TrueLesion, ...]
    t1w_from_flair: NDArray[np.float64]


def _simulate(subject: str, session: str | None, seed: int, flair_slice_mm: float) -> _Simulated:
    """Simulate both images of a scan and its truth; sessions share the size of the head."""
    anatomy = build_anatomy()
    scale = random_scale(np.random.default_rng([seed, int(subject)]))
    rng = np.random.default_rng([seed, int(subject), int(session or 0)])
    to_flair = head_in_scanner(scale, random_rigid(rng, max_degrees=4, max_mm=5))
    t1w_from_flair = random_rigid(rng, max_degrees=1.5, max_mm=2.5)

    flair = centred_grid(FLAIR_FOV_MM, (1.0, 1.0, flair_slice_mm), rng.uniform(2, 6))
    t1w = centred_grid(T1W_FOV_MM, _T1W_SPACING_MM)
    shares = [draw_lesion(plan, anatomy) for plan in PLANS[subject, session]]
    field = merge(shares, anatomy)

    def image(
        contrast: str, to_scanner: NDArray[np.float64], grid: Grid, axes: str
    ) -> nib.Nifti1Image:
        signal = render(anatomy, contrast, field)
        return as_image(degrade(acquire(signal, anatomy.affine, to_scanner, grid), rng), grid, axes)

    def mask(share: NDArray[np.float32]) -> nib.Nifti1Image:
        inside = acquire(share, anatomy.affine, to_flair, flair) >= 0.5
        return as_image(inside.astype(np.uint8), flair, _FLAIR_AXES)

    lesions = []
    for index, (plan, share) in enumerate(zip(PLANS[subject, session], shares, strict=True), 1):
        volume_mm3, centroid = measure(share, anatomy)
        x, y, z = apply_affine(to_flair, centroid).round(2).tolist()
        volume_mm3 = round(volume_mm3 * float(scale.prod()), 1)
        lesions.append(TrueLesion(index, plan.location, volume_mm3, (x, y, z)))
    return _Simulated(
        images={
            "FLAIR": image("FLAIR", to_flair, flair, _FLAIR_AXES),
            "T1w": image("T1w", t1w_from_flair @ to_flair, t1w, _T1W_AXES),
        },
        lesion_mask=mask(field),
        brain_mask=mask(anatomy.brain.astype(np.float32)),
        lesions=tuple(lesions),
        t1w_from_flair=t1w_from_flair,
    )


def _write_scan(
    simulated: _Simulated, subject: str, session: str | None, root: Path, final: Path
) -> PhantomScan:
    """Write a scan and its truth below `root`; the paths returned are below `final`."""
    label = _label(subject, session)
    anat = Path(*label.split("_"), "anat")
    paths = {contrast: anat / f"{label}_{contrast}.nii.gz" for contrast in simulated.images}
    lesion_mask = TRUTH / anat / f"{label}_space-FLAIR_label-lesion_mask.nii.gz"
    brain_mask = TRUTH / anat / f"{label}_space-FLAIR_desc-brain_mask.nii.gz"
    for folder in (root / anat, root / TRUTH / anat):
        folder.mkdir(parents=True)
    for contrast, path in paths.items():
        nib.save(simulated.images[contrast], root / path)

    spatial_reference = f"bids:raw:{paths['FLAIR'].as_posix()}"
    for path, image, kind in (
        (lesion_mask, simulated.lesion_mask, "Lesion"),
        (brain_mask, simulated.brain_mask, "Brain"),
    ):
        nib.save(image, root / path)
        sidecar = (root / path).with_suffix("").with_suffix(".json")
        _write_json(sidecar, {"Type": kind, "SpatialReference": spatial_reference})
    table = root / TRUTH / anat / f"{label}_desc-lesions_dseg.tsv"
    _lesion_table(simulated.lesions).to_csv(table, sep="\t", index=False)

    voxel_mm3 = abs(np.linalg.det(simulated.brain_mask.affine[:3, :3]))
    return PhantomScan(
        subject=subject,
        session=session,
        flair=final / paths["FLAIR"],
        t1w=final / paths["T1w"],
        lesion_mask=final / lesion_mask,
        brain_mask=final / brain_mask,
        lesions=simulated.lesions,
        icv_ml=float(np.asanyarray(simulated.brain_mask.dataobj).sum() * voxel_mm3 / 1000),
        t1w_from_flair=simulated.t1w_from_flair,
    )


def _write_descriptions(root: Path) -> None:
    """Write the top-level files of the dataset and of its truth."""
    truth = root / TRUTH
    truth.mkdir(parents=True)
    common = {"BIDSVersion": "1.10.0", "License": "CC0", "GeneratedBy": _GENERATED_BY}
    _write_json(
        root / "dataset_description.json",
        {"Name": "Phantom with known lesions", "DatasetType": "raw", **common},
    )
    _write_json(
        truth / "dataset_description.json",
        {
            "Name": "Truth of the phantom",
            "DatasetType": "derivative",
            **common,
            "DatasetLinks": {"raw": "../.."},
            "SourceDatasets": [{"URL": "bids:raw:"}],
        },
    )
    (root / "README").write_text(_README)
    (truth / "README").write_text(_TRUTH_README)
    _PARTICIPANTS.to_csv(root / "participants.tsv", sep="\t", index=False)
    _write_json(root / "participants.json", _PARTICIPANTS_COLUMNS)
    _write_json(truth / "desc-lesions_dseg.json", _LESION_COLUMNS)
    for contrast, sidecar in _SIDECARS.items():
        _write_json(root / f"{contrast}.json", sidecar)


def _lesion_table(lesions: tuple[TrueLesion, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (one.index, f"lesion-{one.index}", one.volume_mm3, one.location, *one.centroid_mm)
            for one in lesions
        ],
        columns=["index", *_LESION_COLUMNS],
    )


def _label(subject: str, session: str | None) -> str:
    return f"sub-{subject}" + (f"_ses-{session}" if session else "")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
