"""Sessions come in the order of time, from whichever table tells it."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade_bids.bids.session_times import DAYS_PER_YEAR, SessionOrder, order_sessions

Rows = Sequence[tuple[str, str]]


def write_table(path: Path, key: str, rows: Rows, *, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{key}\tage\tacq_time", *(f"{name}\t30\t{time}" for name, time in rows)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def write_sessions(root: Path, rows: Rows, **options: str) -> None:
    write_table(root / "sub-01" / "sub-01_sessions.tsv", "session_id", rows, **options)


def write_scans(root: Path, session: str, rows: Rows) -> None:
    name = f"sub-01_ses-{session}_scans.tsv"
    write_table(root / "sub-01" / f"ses-{session}" / name, "filename", rows)


def order(root: Path, *sessions: str) -> SessionOrder:
    return order_sessions(root, "01", sessions)


def test_sessions_come_in_the_order_of_their_table(tmp_path: Path) -> None:
    write_sessions(
        tmp_path,
        [
            ("ses-a", "2021-06-01T10:00:00"),
            ("ses-b", "2020-06-01T10:00:00"),
            ("ses-c", "2021-12-01"),
        ],
    )
    found = order(tmp_path, "a", "b", "c")
    assert found.sessions == ("b", "a", "c")
    assert found.years == (pytest.approx(365 / 365.25, abs=1e-4), pytest.approx(0.5, abs=0.01))
    assert found.source == "sub-01_sessions.tsv"


def test_sessions_of_the_table_that_are_not_compared_do_not_matter(tmp_path: Path) -> None:
    write_sessions(tmp_path, [("ses-1", "2020-01-01"), ("ses-2", "n/a"), ("ses-3", "2019-01-01")])
    found = order(tmp_path, "1", "3")
    assert found.sessions == ("3", "1")
    assert found.years == (pytest.approx(1, abs=1e-3),)


def test_labels_of_digits_are_text(tmp_path: Path) -> None:
    write_sessions(tmp_path, [("ses-01", "2021-01-01"), ("ses-02", "2020-01-01")])
    assert order(tmp_path, "01", "02").sessions == ("02", "01")
    assert order(tmp_path, "1", "2") == SessionOrder(("1", "2"), (None,), "labels")


def test_a_table_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    rows = [("ses-1", "2021-01-01"), ("ses-2", "2020-01-01")]
    write_sessions(tmp_path, rows, encoding="utf-8-sig")
    assert order(tmp_path, "1", "2").sessions == ("2", "1")


@pytest.mark.parametrize("missing", ["n/a", "", "unknown", "2020-13-45", "12:30:00"])
def test_if_one_time_is_missing_the_scans_tell_all_of_them(tmp_path: Path, missing: str) -> None:
    write_sessions(tmp_path, [("ses-1", "2021-01-01"), ("ses-2", missing)])
    assert order(tmp_path, "1", "2") == SessionOrder(("1", "2"), (None,), "labels")
    write_scans(tmp_path, "1", [("anat/sub-01_ses-1_FLAIR.nii.gz", "2005-01-01T08:00:00")])
    write_scans(tmp_path, "2", [("anat/sub-01_ses-2_FLAIR.nii.gz", "2003-01-01T08:00:00")])
    found = order(tmp_path, "1", "2")
    assert found.sessions == ("2", "1")
    assert found.years == (pytest.approx(2, abs=2e-3),)
    assert found.source == "scans.tsv"


def test_the_table_of_sessions_comes_before_those_of_scans(tmp_path: Path) -> None:
    write_sessions(tmp_path, [("ses-1", "2021-01-01"), ("ses-2", "2022-01-01")])
    write_scans(tmp_path, "1", [("anat/x.nii.gz", "2009-01-01")])
    write_scans(tmp_path, "2", [("anat/x.nii.gz", "2005-01-01")])
    assert order(tmp_path, "1", "2").sessions == ("1", "2")


def test_the_earliest_anatomical_image_tells_when_a_session_was(tmp_path: Path) -> None:
    write_scans(
        tmp_path,
        "1",
        [
            ("func/sub-01_ses-1_bold.nii.gz", "1999-01-01"),
            ("anat/sub-01_ses-1_FLAIR.nii.gz", "2020-03-01"),
            ("anat/sub-01_ses-1_T1w.nii.gz", "2020-01-01"),
            ("anat/sub-01_ses-1_T2w.nii.gz", "n/a"),
        ],
    )
    write_scans(tmp_path, "2", [("anat/sub-01_ses-2_FLAIR.nii.gz", "2021-01-01")])
    found = order(tmp_path, "2", "1")
    assert found.sessions == ("1", "2")
    assert found.years == (pytest.approx(366 / 365.25, abs=1e-4),)


def test_a_session_without_anatomical_times_leaves_the_order_to_labels(tmp_path: Path) -> None:
    write_scans(tmp_path, "1", [("anat/x.nii.gz", "2021-01-01")])
    write_scans(tmp_path, "2", [("func/x.nii.gz", "2020-01-01")])
    assert order(tmp_path, "1", "2") == SessionOrder(("1", "2"), (None,), "labels")


def test_without_times_labels_are_in_natural_order(tmp_path: Path) -> None:
    found = order(tmp_path, "m10", "m2", "m01", "baseline")
    assert found == SessionOrder(("baseline", "m01", "m2", "m10"), (None,) * 3, "labels")


def test_time_zones_and_fractions_of_seconds_are_read(tmp_path: Path) -> None:
    write_sessions(
        tmp_path,
        [
            ("ses-1", "2022-01-01T10:00:00Z"),
            ("ses-2", "2021-01-01T10:00:00.123456"),
            ("ses-3", "2020-01-01T10:00:00+09:00"),
        ],
    )
    found = order(tmp_path, "1", "2", "3")
    assert found.sessions == ("3", "2", "1")
    assert found.years == (pytest.approx(1, abs=3e-3), pytest.approx(1, abs=3e-3))


def test_dates_of_anonymised_data_are_read(tmp_path: Path) -> None:
    """BIDS lets dates be shifted to before 1925."""
    write_sessions(tmp_path, [("ses-1", "1824-05-01T09:00:00"), ("ses-2", "1823-05-01T09:00:00")])
    assert order(tmp_path, "1", "2").sessions == ("2", "1")


def test_sessions_at_the_same_time_are_in_natural_order_and_no_time_apart(tmp_path: Path) -> None:
    write_sessions(
        tmp_path, [("ses-10", "2020-01-01"), ("ses-2", "2020-01-01"), ("ses-1", "2021-01-01")]
    )
    found = order(tmp_path, "10", "1", "2")
    assert found.sessions == ("2", "10", "1")
    assert found.years == (None, pytest.approx(1, abs=3e-3))


def test_a_day_has_no_rate_of_change(tmp_path: Path) -> None:
    """Who is scanned again on the same day has a new lesion by chance, not a thousand in a year."""
    write_sessions(
        tmp_path,
        [
            ("ses-1", "2020-01-01T09:00:00"),
            ("ses-2", "2020-01-01T17:00:00"),
            ("ses-3", "2020-01-02T09:00:00"),
            ("ses-4", "2020-01-03T09:00:00"),
        ],
    )
    found = order(tmp_path, "2", "1", "4", "3")
    assert found.sessions == ("1", "2", "3", "4")
    assert found.years == (None, None, pytest.approx(1 / DAYS_PER_YEAR, abs=1e-4))


@pytest.mark.parametrize(
    "content",
    [b"", b"session_id\nses-1\n", b"\xff\xfe\x00binary", b"session_id\tacq_time\na\tb\na\tb\tc\n"],
    ids=["empty", "no times", "binary", "ragged"],
)
def test_a_table_that_can_not_be_read_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "sub-01" / "sub-01_sessions.tsv"
    path.parent.mkdir()
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        found = order(tmp_path, "2", "1")
    assert found == SessionOrder(("1", "2"), (None,), "labels")
    assert "sub-01_sessions.tsv tells no acquisition times" in caplog.text


def test_missing_tables_are_no_reason_to_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        order(tmp_path, "1", "2")
    assert not caplog.records


dates = st.datetimes(datetime(1900, 1, 1), datetime(2090, 1, 1))


@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(times=st.lists(dates, min_size=2, max_size=5))
def test_the_order_in_which_sessions_are_named_does_not_matter(
    tmp_path: Path, times: list[datetime]
) -> None:
    labels = [str(number) for number in range(len(times))]
    rows = [(f"ses-{one}", time.isoformat()) for one, time in zip(labels, times, strict=True)]
    write_sessions(tmp_path, rows)
    found = order(tmp_path, *labels)
    assert found == order(tmp_path, *reversed(labels))
    ordered = [times[int(session)] for session in found.sessions]
    assert ordered == sorted(times)
    total = sum(years or 0 for years in found.years)
    whole = (ordered[-1] - ordered[0]) / timedelta(days=DAYS_PER_YEAR)
    assert total == pytest.approx(whole, abs=0.02)
