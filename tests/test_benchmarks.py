"""The plain parts of benchmarks/speed: ratios, bars, the table, and what a command costs."""

import math
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from benchmarks.speed.__main__ import ROWS
from benchmarks.speed.builds import OLD_COMMIT, Bench, SkipError, keep_run
from benchmarks.speed.datasets import (
    copy_sessions,
    find_sessions,
    resample_in_plane,
    write_empty_dataset,
)
from benchmarks.speed.measure import CommandError, Cost, measure_in_turn, run_command, run_probe
from benchmarks.speed.rows_masks import judge_masks
from benchmarks.speed.table import Row, compare, read_table, replace_group, write_table

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"


def cost(seconds: float) -> Cost:
    return Cost(cpu_s=seconds, wall_s=2 * seconds, memory_gb=1.0)


def test_a_row_has_the_median_of_the_ratios_of_pairs_not_the_ratio_of_medians():
    costs, base = [cost(1), cost(2), cost(9)], [cost(4), cost(4), cost(10)]
    row = compare("a", "one : two", costs, base, of="cpu", bar=0.5, build="x", base="y")
    assert (row.ratio, row.spread, row.n) == ("0.5", "0.25 to 0.9", "3")
    assert (row.cpu_s, row.base_cpu_s, row.wall_s) == ("2", "4", "4")
    assert (row.bar, row.met) == ("0.5", "yes")


@pytest.mark.parametrize(("bar", "met"), [(0.4, "no"), (0.6, "yes"), (None, "no bar")])
def test_a_bar_is_met_or_not(bar, met):
    row = compare("a", "", [cost(1)], [cost(2)], of="wall", bar=bar, build="", base="")
    assert row.met == met


def test_the_memory_of_a_short_run_is_left_out():
    short = [Cost(cpu_s=0.1, wall_s=0.1, memory_gb=math.nan)]
    row = compare("a", "", short, short, of="cpu", build="", base="")
    assert row.memory_gb == row.base_memory_gb == ""


def test_later_rows_replace_those_of_their_group_in_place(tmp_path):
    table = read_table(tmp_path / "speed.tsv")
    table = replace_group(table, "session", [Row("session", "", met="skipped: no data")])
    table = replace_group(table, "dense", [Row("dense", "", ratio="0.02")])
    write_table(table, tmp_path)
    again = read_table(tmp_path / "speed.tsv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    rows = [Row(f"session_{of}", "", ratio="0.4", bar="0.5") for of in ("cpu", "wall")]
    again = replace_group(again, "session", rows)
    assert list(again["row"]) == ["session_cpu", "session_wall", "dense"]
    write_table(again, tmp_path)
    assert "| session_wall |" in (tmp_path / "speed.md").read_text()
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_variants_are_measured_in_turn():
    order: list[str] = []

    def measure(name: str) -> Cost:
        order.append(name)
        return cost(1)

    costs = measure_in_turn({"a": lambda: measure("a"), "b": lambda: measure("b")}, 3)
    assert order == ["a", "b"] * 3
    assert {name: len(found) for name, found in costs.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize("orphaned", [False, True])
def test_the_processor_time_of_all_processes_counts(orphaned):
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    end = "" if orphaned else ".wait()"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {spin!r}]){end}"
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert run_command(command).cpu_s >= 0.3


def test_the_result_of_a_process_that_cannot_start_is_an_error(tmp_path):
    with pytest.raises(CommandError, match="No such file"):
        run_command([tmp_path / "missing"])


def test_a_failed_command_says_why():
    with pytest.raises(CommandError, match="exit code 3: no such scan"):
        run_command(
            [
                sys.executable,
                "-c",
                "import sys; print('no such scan', file=sys.stderr); sys.exit(3)",
            ]
        )


def test_a_probe_reports_what_it_timed(tmp_path):
    dataset = write_empty_dataset(tmp_path / "bids", 2)
    # A description, and for both participants three images with their sidecars.
    assert run_probe("walk", dataset).found == {"files": 13}
    assert run_probe("find_scans", dataset).found == {"scans": 2}
    assert run_probe("find_scans", dataset, "00002").found == {"scans": 1}


@pytest.mark.parametrize(
    ("overlap", "load_ml", "old_ml", "agree"),
    [
        (0.98, 10.2, 10.0, True),
        (0.98, 10.4, 10.0, False),
        (0.96, 10.0, 10.0, False),
        (0.5, 1.05, 1.0, True),
        (0.99, 1.2, 1.0, False),
    ],
)
def test_masks_are_judged_by_overlap_and_load_small_ones_by_load(overlap, load_ml, old_ml, agree):
    assert judge_masks(overlap, load_ml, old_ml) == agree


def write_session(folder: Path) -> Path:
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).random((8, 10, 3), dtype=np.float32)
    image = nib.Nifti1Image(values, np.diag([1.0, 1.0, 4.0, 1.0]))
    image.to_filename(folder / "sub-04_ses-1_FLAIR.nii.gz")
    return folder


def test_slices_get_more_voxels_and_cover_the_same_head(tmp_path):
    session = write_session(tmp_path / "raw" / "sub-04" / "ses-1" / "anat")
    dataset = resample_in_plane(session, 4, tmp_path / "finer")
    image = nib.load(dataset / "sub-1" / "anat" / "sub-1_FLAIR.nii.gz")
    assert image.shape == (16, 20, 3)
    np.testing.assert_allclose(image.affine @ [-0.5, -0.5, 0, 1], [-0.5, -0.5, 0, 1])
    np.testing.assert_allclose(image.affine @ [15.5, 19.5, 2, 1], [7.5, 9.5, 8, 1])


def test_sessions_are_copied_as_participants(tmp_path):
    write_session(tmp_path / "raw" / "sub-04" / "ses-1" / "anat")
    sessions = find_sessions(tmp_path / "raw")
    dataset = copy_sessions(sessions * 2, tmp_path / "copies")
    names = sorted(path.name for path in dataset.rglob("*.nii.gz"))
    assert names == ["sub-1_FLAIR.nii.gz", "sub-2_FLAIR.nii.gz"]


class StandIn:
    """A build that writes a mask of some voxels for each FLAIR, and says what it cost."""

    def __init__(self, name: str, seconds: float, voxels: int) -> None:
        self.name, self.state, self.seconds, self.voxels = name, f"commit-{name}", seconds, voxels

    def run(self, *arguments: object, allowed: tuple[int, ...] = (0,)) -> Cost:
        if len(arguments) > 1:
            bids, out = Path(str(arguments[0])), Path(str(arguments[1]))
            for flair in bids.rglob("*_FLAIR.nii.gz"):
                mask = np.zeros((8, 10, 3), np.uint8)
                mask.flat[: self.voxels] = 1
                name = flair.name.replace("FLAIR", "space-FLAIR_label-lesion_mask")
                out.mkdir(parents=True, exist_ok=True)
                nib.Nifti1Image(mask, nib.load(flair).affine).to_filename(out / name)
        return cost(self.seconds)


@pytest.fixture
def bench(tmp_path):
    """Measures stand-ins, the new one in half the time, on a session in each dataset."""
    for name in ("openms-raw", "ms3seg-raw"):
        write_session(tmp_path / "data" / name / "sub-04" / "ses-1" / "anat")
    bench = Bench(3, tmp_path / "data", tmp_path / "kept", tmp_path / "out")
    vars(bench).update(this=StandIn("this", 1, 60), old=StandIn("old", 2, 62))
    return bench


@pytest.mark.parametrize(
    ("group", "ratios"),
    [
        ("session", {"session_cpu": "0.5", "session_wall": "0.5", "session_memory": "1"}),
        ("batch", {"batch_wall": "0.5"}),
        ("rerun", {"rerun": "0.5"}),
        ("startup", {"startup_help": "0.5", "startup_version": "0.5"}),
        ("voxels", {"voxels_0.5x": "1", "voxels_2x": "1", "voxels_4x": "1"}),
        ("scans", {"scans_2": "1", "scans_4": "1", "scans_8": "1"}),
        ("processes", {"processes_2": "1"}),
    ],
)
def test_runs_are_compared_with_the_old_build_or_with_smaller_ones(bench, group, ratios):
    assert {row.row: row.ratio for row in ROWS[group](bench)} == ratios
    kept = {path.name for path in bench.folder.glob("*")}
    assert kept <= {"runs"}


def test_masks_are_compared_scan_by_scan(bench):
    (row,) = ROWS["masks"](bench)
    table = pd.read_csv(bench.out / "masks.tsv", sep="\t")
    assert list(table["dataset"]) == ["openms-raw", "ms3seg-raw"]
    np.testing.assert_allclose(table["dsc"], 2 * 60 / (60 + 62), atol=1e-4)
    np.testing.assert_allclose(table["old_ml"], 62 * 4 / 1000, atol=1e-4)
    assert (row.met, row.n, row.base) == ("yes", "2", "commit-old")


def test_the_run_of_a_commit_is_kept_but_not_of_changed_files(bench):
    dataset = bench.dataset("openms-raw")
    folder = keep_run(bench, bench.old, "once", dataset)
    (folder / "out" / "mark").touch()
    assert (keep_run(bench, bench.old, "once", dataset) / "out" / "mark").exists()
    bench.old.state += "+changes"
    assert not (keep_run(bench, bench.old, "once", dataset) / "out" / "mark").exists()


def test_rows_without_data_are_skipped_with_the_reason(tmp_path):
    bench = Bench(1, tmp_path, tmp_path / "kept", tmp_path / "out")
    with pytest.raises(SkipError, match="no openms-raw"):
        ROWS["session"](bench)


def test_make_bench_measures_beside_a_commit_of_this_repository():
    assert "-m benchmarks.speed" in MAKEFILE.read_text()
    assert len(OLD_COMMIT) == 7
