"""Score the change that the program reports."""

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from benchmarks.change.pairs import ENLARGED, NEW

VOLUMES_MM3 = ((5.0, 20.0), (20.0, 500.0))


def count_invented(out: Path) -> pd.DataFrame:
    """Count the lesions of each class that are reported between a session and its rescan."""
    rows = []
    for path in sorted(out.glob("sub-*/anat/*_desc-lesions_change.tsv")):
        table = pd.read_csv(path, sep="\t")
        for session, part in table.groupby("session_id"):
            if part["class"].notna().any() or session != table["session_id"].min():
                counts = part["class"].value_counts()
                rows.append({"head": path.parts[-3], "session": session, **counts})
    return pd.DataFrame(rows).fillna(0)


def score_painted(bids: Path, out: Path) -> pd.DataFrame:
    """Compare painted with reported lesions: a row for each painted or wrongly reported one.

    A painted lesion is found if a lesion of its class overlaps it; a reported one is right if it
    overlaps a painted one of its class.
    """
    return pd.concat(list(_score_heads(bids, out)), ignore_index=True)


def _score_heads(bids: Path, out: Path) -> Iterator[pd.DataFrame]:
    lesions = pd.read_csv(bids / "truth" / "lesions.tsv", sep="\t")
    for name, painted in lesions.groupby("head"):
        truth = np.asarray(nib.load(bids / "truth" / f"{name}_2.nii.gz").dataobj)
        stem = out / f"sub-{name}" / "ses-2" / "anat" / f"sub-{name}_ses-2"
        tracked = np.asarray(nib.load(f"{stem}_space-FLAIR_desc-tracked_dseg.nii.gz").dataobj)
        table = pd.read_csv(
            out / f"sub-{name}" / "anat" / f"sub-{name}_desc-lesions_change.tsv", sep="\t"
        )
        table = table[table["session_id"] == "ses-2"].set_index("lesion")
        rows = []
        for kind in (NEW, ENLARGED):
            reported = table.index[table["class"] == kind]
            of_kind = painted[painted["kind"] == kind]
            found = np.unique(truth[np.isin(tracked, reported)])
            for _, lesion in of_kind.iterrows():
                rows.append({**lesion, "is_painted": True, "is_found": lesion["lesion"] in found})
            for number in reported:
                under = np.unique(truth[tracked == number])
                if not np.isin(under, of_kind["lesion"]).any():
                    rows.append(
                        {
                            "head": name,
                            "kind": kind,
                            "volume_mm3": table.loc[number, "volume_mm3"],
                            "is_painted": False,
                            "is_found": False,
                        }
                    )
        yield pd.DataFrame(rows)


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Compute the lesion F1 by kind, of all and by volume."""
    rows = []
    for kind, of_kind in scores.groupby("kind"):
        for low, high in ((0.0, np.inf), *VOLUMES_MM3):
            part = of_kind[of_kind["volume_mm3"].between(low, high)]
            painted, found = int(part["is_painted"].sum()), int(part["is_found"].sum())
            wrong = int((~part["is_painted"]).sum())
            f1 = 2 * found / (painted + found + wrong) if painted else np.nan
            rows.append(
                {
                    "kind": kind,
                    "mm3": f"{low:g} to {high:g}",
                    "painted": painted,
                    "found": found,
                    "wrong": wrong,
                    "F1": f1,
                }
            )
    return pd.DataFrame(rows)
