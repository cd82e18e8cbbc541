"""Comparison of the lesions that a run found in a phantom with the true ones."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from cascade_bids.bids.dataset import parse_entities
from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.metrics.overlap import dice
from cascade_bids.phantom.dataset import TRUTH

_TABLE = "_desc-lesions_dseg.tsv"


def compare_loads(bids_dir: Path, output_dir: Path) -> pd.DataFrame:
    """Compare the lesions that a run found with the true ones.

    Parameters
    ----------
    bids_dir
        A phantom dataset (`write_phantom`).
    output_dir
        Derivatives of a run on it.

    Returns
    -------
    DataFrame
        One row per phantom scan: ``scan``, ``planted_load_ml`` and ``planted_count`` of the true
        lesions, ``found_load_ml`` and ``found_count``, and ``dice`` of the lesion masks on the
        FLAIR grid. Results that the run did not write are missing (NaN).

    Raises
    ------
    UsageError
        If `bids_dir` holds no true lesions.
    ScanError
        If a mask of the run is not on the grid of the FLAIR.
    """
    truth = bids_dir / TRUTH
    tables = sorted(truth.glob(f"sub-*/**/*{_TABLE}"))
    if not tables:
        raise UsageError(
            f"{bids_dir} is no phantom, for there is no *{_TABLE} in {truth}: "
            "compare with a dataset that write_phantom wrote."
        )
    rows = [_compare(table, truth, output_dir) for table in tables]
    return pd.DataFrame(rows).astype({"planted_count": "Int64", "found_count": "Int64"})


def _compare(table: Path, truth: Path, output_dir: Path) -> dict[str, object]:
    """Build one row, from a table of true lesions."""
    entities = parse_entities(table.relative_to(truth))
    scan = Scan(entities["subject"], entities.get("session"), None)
    volumes_mm3 = pd.read_csv(table, sep="\t")["volume_mm3"]
    stats_file = output_path(output_dir, scan, "stats")
    stats = json.loads(stats_file.read_text()) if stats_file.exists() else {}
    found, true = (output_path(root, scan, "lesion_mask") for root in (output_dir, truth))
    return {
        "scan": scan.label,
        "planted_load_ml": volumes_mm3.sum() / 1000,
        "found_load_ml": stats.get("load_ml", np.nan),
        "planted_count": len(volumes_mm3),
        "found_count": stats.get("count", np.nan),
        "dice": _overlap(found, true) if found.exists() else np.nan,
    }


def _overlap(found_file: Path, true_file: Path) -> float:
    """Compute the Dice coefficient of two masks that must be on one grid."""
    found, true = map(nib.Nifti1Image.from_filename, (found_file, true_file))
    if found.shape != true.shape or not np.allclose(found.affine, true.affine, atol=1e-3):
        raise ScanError(
            f"{found_file} is not on the grid of {true_file}: "
            "the mask with space-FLAIR has to have the shape and affine of the raw FLAIR."
        )
    return dice(np.asanyarray(found.dataobj), np.asanyarray(true.dataobj))
