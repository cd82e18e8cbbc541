"""Odd results at the group level."""

import json
from collections.abc import Callable
from pathlib import Path

from cascade_bids.lesions.location import LOCATIONS

from ..tiny_heads import Run, image_path
from .heads import Case
from .rows import Refused, Row, Summed, check_tiny, parametrize, run_group

STATS = {
    "load_ml": 2.0,
    "count": 4,
    "by_location": {place: {"load_ml": 0.5, "count": 1} for place in LOCATIONS},
    "icv_ml": 1400.0,
    "load_percent_icv": 0.1429,
    "method": "toy",
    "contrasts": "FLAIR",
    "version": "0.1.0",
    "weights_sha256": "ab" * 32,
    "threshold": 0.5,
    "min_lesion_mm3": 10.0,
    "skull_strip": "auto",
    "quality": {"verdict": "pass", "reasons": [], "measures": {}},
}
GOOD = "sub-02"


def stats_path(case: Case, label: str) -> Path:
    return image_path(case.out, label, "x").with_name(f"{label}_desc-lesions_stats.json")


def put(case: Case, label: str, content: object) -> Path:
    """Write statistics as the participant level does; bytes go in as they are."""
    path = stats_path(case, label)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def damaged(content: object) -> Callable[[Case], object]:
    """Put statistics of sub-01 beside good ones."""
    return lambda case: (put(case, "sub-01", content), put(case, GOOD, STATS))


def changed(**changes: object) -> Callable[[Case], object]:
    return damaged(STATS | changes)


def unfetched(case: Case) -> None:
    damaged(STATS)(case)
    path = stats_path(case, "sub-01")
    path.unlink()
    path.symlink_to("../../.git/annex/nothing.json")


def a_folder(case: Case) -> None:
    damaged(STATS)(case)
    path = stats_path(case, "sub-01")
    path.unlink()
    path.mkdir()


def in_folder(label: str) -> Callable[[Case], object]:
    """Put statistics into a folder whose name is no label."""

    def spoil(case: Case) -> None:
        damaged(STATS)(case)
        folder = (case.out / "sub-01").rename(case.out / label) / "anat"
        path = folder / "sub-01_desc-lesions_stats.json"
        path.rename(folder / f"{label}_desc-lesions_stats.json")

    return spoil


def marked_up(case: Case) -> None:
    put(case, "sub-01", STATS | {"method": "<b>x</b>", "version": "<b>1</b>"})
    put(case, GOOD, STATS)


def is_text(case: Case, done: Run) -> None:
    assert "<b>x" not in (case.out / "group.html").read_text()


def without_result(case: Case) -> None:
    put(case, GOOD, STATS)
    (case.out / "sub-01" / "anat").mkdir(parents=True)


LEFT_OUT = Summed(1, (GOOD,), ("sub-01_desc-lesions_stats.json", "left out"))
BOTH = ("sub-01", GOOD)

ROWS = [
    *(
        Row(f"statistics {name}", damaged(content), LEFT_OUT, run=run_group)
        for name, content in {
            "cut off": b'{"load_ml": 3',
            "empty": b"",
            "no text": b"\xff\xfe\x00",
            "a list": [],
            "nested beyond reason": b"[" * 100_000,
        }.items()
    ),
    *(
        Row(f"{name} {value}", changed(**{name: value}), LEFT_OUT, run=run_group)
        for name, value in (
            ("load_ml", "two"),
            ("load_ml", float("nan")),
            ("load_ml", float("inf")),
            ("load_ml", -1.0),
            ("count", 1.5),
            ("by_location", {}),
            ("load_interval_ml", [1]),
            ("load_interval_ml", "ab"),
            ("quality", "odd"),
            ("quality", {"verdict": "good"}),
            ("quality", {"verdict": None}),
            ("quality", {"verdict": ["pass"]}),
        )
    ),
    Row(
        "statistics that were not fetched",
        unfetched,
        Summed(1, (GOOD,), ("sub-01_desc-lesions_stats.json", "fetch")),
        run=run_group,
    ),
    Row(
        "statistics that are a pointer",
        damaged(b"/annex/objects/MD5E-s1--a.json\n"),
        Summed(1, (GOOD,), ("sub-01_desc-lesions_stats.json", "fetch it")),
        run=run_group,
    ),
    Row("a folder named like statistics", a_folder, LEFT_OUT, run=run_group),
    *(
        Row(
            f"statistics of {label}",
            in_folder(label),
            Summed(1, (GOOD,), ("left out",)),
            run=run_group,
        )
        for label in ("sub-é1", "sub-<i>x<i>", "sub-01_y")
    ),
    Row("markup in statistics", marked_up, Summed(0, BOTH), run=run_group, also=is_text),
    Row(
        "other images without skull",
        changed(skull_strip="skip"),
        Summed(0, BOTH, ("skull",)),
        run=run_group,
    ),
    Row(
        "without a verdict",
        damaged({key: value for key, value in STATS.items() if key != "quality"}),
        Summed(0, BOTH, ("1 of the 2 scans have no verdict", "sub-01")),
        run=run_group,
    ),
    Row("other method", changed(method="x"), Summed(0, BOTH, ("same method",)), run=run_group),
    Row(
        "a participant without results",
        without_result,
        Summed(0, (GOOD,), ("sub-01 has no lesion statistics",)),
        run=run_group,
    ),
    Row(
        "no results",
        lambda case: case.out.mkdir(),
        Refused(2, ("no lesion statistics", "participant level")),
        run=run_group,
    ),
    Row("no output folder", lambda case: None, Refused(2, ("no lesion",)), run=run_group),
]


@parametrize(ROWS)
def test_odd_results(row: Row, tmp_path: Path) -> None:
    check_tiny(row, tmp_path)
