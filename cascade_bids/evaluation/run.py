"""The command ``evaluate``: score every scan, summarise the cohort, write the results."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cascade_bids.bids.outputs import write_json
from cascade_bids.bids.scan import Scan
from cascade_bids.config import VERSION
from cascade_bids.errors import ScanError, UsageError
from cascade_bids.evaluation.cohort import (
    add_isbi2015,
    compare,
    describe_curves,
    summarise,
    volume_agreement,
)
from cascade_bids.evaluation.pairs import (
    Masks,
    find_masks,
    list_scans,
    pair_scan,
    read_pair,
    unused_scans,
)
from cascade_bids.evaluation.scores import score_scan
from cascade_bids.files import write_text
from cascade_bids.metrics.curves import CurveCounts
from cascade_bids.report.evaluation import data_dictionary, write_evaluation_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation."""

    table: pd.DataFrame
    """The rows of ``evaluation.tsv``."""
    cohort: Mapping[str, Any]
    """The content of ``cohort.json``."""
    failures: tuple[str, ...]
    """A sentence for each scan that could not be scored."""


@dataclass(frozen=True)
class _Method:
    """The scored scans of one method."""

    table: pd.DataFrame
    counts: list[CurveCounts]
    failures: list[str]


def evaluate(
    prediction: Path, reference: Path, out: Path, *, other: Path | None = None
) -> Evaluation:
    """Score predicted lesion masks against reference masks.

    Writes ``evaluation.tsv`` (a row for each scan, and for each method if there are two),
    ``evaluation.json`` (its BIDS data dictionary), ``cohort.json`` (summaries, agreement of the
    loads, curves, tests) and ``evaluation.html``. Scans that cannot be scored are reported, and the
    others are scored.

    Parameters
    ----------
    prediction
        BIDS dataset with the predicted masks and, if available, probability maps.
    reference
        BIDS dataset with the reference masks.
    out
        Folder for the results; created when missing.
    other
        Dataset of a second method to compare with the first.

    Returns
    -------
    Evaluation
        The results, and the scans that failed.

    Raises
    ------
    UsageError
        If a dataset does not exist or holds no lesion mask, or a method is compared with itself.
    ScanError
        If no scan of a method could be scored; nothing is written then.
    """
    references = find_masks(reference)
    roots = [prediction] if other is None else [prediction, other]
    names = _names(roots)
    scans = list_scans(references)
    predictions = {name: find_masks(root) for name, root in zip(names, roots, strict=True)}
    methods = {
        name: _score(name if other else None, scans, references, masks)
        for name, masks in predictions.items()
    }
    failures = [failure for method in methods.values() for failure in method.failures]
    notes = [
        f"{label} of {masks.root} has no reference in {references.root}; it was not scored."
        for masks in predictions.values()
        for label in unused_scans(scans, masks)
    ]
    table = pd.concat(
        [m.table.assign(prediction=name) for name, m in methods.items()], ignore_index=True
    )
    table = _order_columns(table, keep_prediction=other is not None)
    cohort = _finite(
        {
            "version": VERSION,
            "reference": str(references.root),
            "predictions": {
                name: {
                    "path": str(predictions[name].root),
                    "scans": len(method.table),
                    "measures": summarise(method.table),
                    "loads": volume_agreement(method.table),
                    "curves": describe_curves(method.counts),
                }
                for name, method in methods.items()
            },
            "comparison": (
                compare(*(m.table.set_index("scan") for m in methods.values())) if other else None
            ),
            "failures": failures,
            "notes": notes,
        }
    )
    _write(out, table, cohort)
    return Evaluation(table, cohort, tuple(failures))


def _names(roots: list[Path]) -> list[str]:
    """Return names of the datasets: their folders, or their paths if two folders have one name."""
    names = [root.resolve().name for root in roots]
    if len({root.resolve() for root in roots}) < len(roots):
        raise UsageError(f"{roots[0]} can't be compared with itself; give another dataset")
    return names if len(set(names)) == len(names) else [str(root.resolve()) for root in roots]


def _score(name: str | None, scans: list[Scan], references: Masks, predictions: Masks) -> _Method:
    """Score all scans of one method; `name` distinguishes it from another in messages."""
    rows, counts, failures = [], [], []
    for scan in scans:
        logger.info("%s: %s", predictions.root, scan.label)
        try:
            pair = pair_scan(scan, references, predictions)
            scores, scan_counts = score_scan(read_pair(pair))
        except ScanError as error:
            failures.append(f"{scan.label}{f' of {name}' if name else ''} failed: {error}")
            continue
        if scan_counts is not None:
            counts.append(scan_counts)
        prefixes = {"participant_id": "sub", "session_id": "ses", "run_id": "run"}
        entities = dict(zip(prefixes, (scan.subject, scan.session, scan.run), strict=True))
        rows.append(
            {
                "scan": scan.label,
                **{key: value and f"{prefixes[key]}-{value}" for key, value in entities.items()},
                **scores,
                "prediction_file": pair.prediction.relative_to(predictions.root).as_posix(),
                "reference_file": pair.reference.relative_to(references.root).as_posix(),
            }
        )
    if not rows:
        raise ScanError(f"No scan of {predictions.root} could be scored. " + " ".join(failures))
    return _Method(add_isbi2015(pd.DataFrame(rows)), counts, failures)


def _order_columns(table: pd.DataFrame, *, keep_prediction: bool) -> pd.DataFrame:
    columns = [name for name in data_dictionary() if keep_prediction or name != "prediction"]
    unused = [name for name in ("session_id", "run_id") if table[name].isna().all()]
    return table[columns].drop(columns=unused)


def _finite(value: Any) -> Any:
    """Replace values that are not finite by None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(out: Path, table: pd.DataFrame, cohort: Mapping[str, Any]) -> None:
    write_text(out / "evaluation.tsv", table.to_csv(sep="\t", na_rep="n/a", index=False))
    described = {name: about for name, about in data_dictionary().items() if name in table}
    write_json(out / "evaluation.json", described)
    write_json(out / "cohort.json", cohort)
    write_evaluation_report(out / "evaluation.html", table, cohort)
