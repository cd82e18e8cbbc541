"""What a run found in a phantom against what was planted."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from cascade_bids.bids.dataset import parse_entities
from cascade_bids.bids.outputs import output_path
from cascade_bids.bids.scan import Scan
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.lesions.metrics import dice
from cascade_bids.phantom.dataset import TRUTH

_TABLE = "_desc-lesions_dseg.tsv"


def compare_loads(bids_dir: Path, output_dir: Path) -> pd.DataFrame:
    """Set the lesions that a run found beside those that were planted.

    Parameters
    ----------
    bids_dir
        A phantom dataset (`write_phantom`).
    output_dir
        Derivatives of a run on it.

    Returns
    -------
    DataFrame
        One row per planted scan: ``scan``, ``planted_load_ml``, ``found_load_ml``,
        ``planted_count``, ``found_count`` and ``dice`` of the lesion masks on the FLAIR grid. What
        the run did not write is missing (NaN).

    Raises
    ------
    UsageError
        If there is no truth in `bids_dir`.
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
    """Make one row, from a table of planted lesions."""
    entities = parse_entities(table.relative_to(truth))
    scan = Scan(entities["subject"], entities.get("session"), None)
    volumes_mm3 = pd.read_csv(table, sep="\t")["volume_mm3"]
    stats_file = output_path(output_dir, scan, "stats")
    stats = json.loads(stats_file.read_text()) if stats_file.exists() else {}
    found, planted = (output_path(root, scan, "lesion_mask") for root in (output_dir, truth))
    return {
        "scan": scan.label,
        "planted_load_ml": volumes_mm3.sum() / 1000,
        "found_load_ml": stats.get("load_ml", np.nan),
        "planted_count": len(volumes_mm3),
        "found_count": stats.get("count", np.nan),
        "dice": _overlap(found, planted) if found.exists() else np.nan,
    }


def _overlap(found_file: Path, planted_file: Path) -> float:
    """Dice of two masks that have to lie on one grid."""
    found, planted = map(nib.Nifti1Image.from_filename, (found_file, planted_file))
    if found.shape != planted.shape or not np.allclose(found.affine, planted.affine, atol=1e-3):
        raise ScanError(
            f"{found_file} is not on the grid of {planted_file}: "
            "the mask with space-FLAIR has to have the shape and affine of the raw FLAIR."
        )
    return dice(np.asanyarray(found.dataobj), np.asanyarray(planted.dataobj))
