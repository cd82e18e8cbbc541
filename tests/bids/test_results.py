"""The result of a scan is found by its own name alone."""

from pathlib import Path

from cascade_bids.bids.outputs import find_stats, output_path
from cascade_bids.bids.results import find_result, read_failure, start_result
from cascade_bids.bids.scan import Scan


def write_stats(root: Path, scan: Scan) -> Path:
    path = output_path(root, scan, "stats")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return path


def test_a_label_that_looks_like_a_pattern_has_no_result_of_others(tmp_path: Path) -> None:
    other = Scan("01", None, None)
    path = write_stats(tmp_path, other)
    figure = output_path(tmp_path, other, "figure", desc="brain")
    figure.parent.mkdir(parents=True)
    figure.write_text("drawn")
    for label in ("*", "[0-9]1", "??"):
        odd = Scan(label, None, None)
        assert find_result(tmp_path, odd) is None
        assert find_stats(tmp_path, label) == []
        start_result(tmp_path, odd)
    assert find_result(tmp_path, other) == (other, path)
    assert figure.read_text() == "drawn"
    assert read_failure(tmp_path, other) is None


def test_a_result_of_another_run_of_the_session_is_its_result(tmp_path: Path) -> None:
    earlier = Scan("01", "a", "2")
    path = write_stats(tmp_path, earlier)
    assert find_result(tmp_path, Scan("01", "a", None)) == (earlier, path)
    assert find_result(tmp_path, Scan("01", "b", None)) is None
