"""Runs that go on where others ended, were broken off, or share a folder."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from cascade_bids.app import participant
from cascade_bids.preprocess import registration
from cascade_bids.report import panels
from cascade_bids.workflows.execution import STEPS

from .tiny_heads import (
    assert_tidy,
    contents,
    image_path,
    make_dataset,
    make_head,
    run,
    stats,
    truncate,
)


def test_a_second_run_goes_on_where_the_first_ended(quick: Counter[str], tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    options = tmp_path / "out", "-w", tmp_path / "work"
    assert run(bids, *options).code == 0
    first, whole = quick.copy(), contents(tmp_path / "out")
    assert first["extract_brain"] == 2
    lost = "sub-01/anat/sub-01_space-FLAIR_label-lesion_mask.nii.gz"
    for name in (lost, "sub-01/figures/sub-01_desc-lesions_mosaic.svg", "sub-01.html"):
        (tmp_path / "out" / name).unlink()
    assert run(bids, *options).code == 0
    assert quick == first, "finished steps were repeated"
    assert contents(tmp_path / "out") == whole

    # Another seed asks for new registrations, and for nothing that does not depend on them.
    assert run(bids, *options, "--random-seed", 1).code == 0
    assert quick["align_to_template"] == 2 * first["align_to_template"]
    assert quick["extract_brain"] == first["extract_brain"]
    assert quick["correct_bias"] == first["correct_bias"]


def test_an_image_that_changed_is_noticed_though_its_size_and_time_did_not(
    quick: Counter[str], tmp_path: Path
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    path = image_path(bids, "sub-01", "FLAIR").with_suffix("")  # .nii: its size says little
    nib.load(path.with_suffix(".nii.gz")).to_filename(path)
    path.with_suffix(".nii.gz").unlink()
    options = tmp_path / "out", "-w", tmp_path / "work"
    assert run(bids, *options).code == 0
    first, before = quick.copy(), path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert run(bids, *options).code == 0
    assert quick["correct_bias"] == first["correct_bias"] + 1


def test_a_failure_takes_its_earlier_results_out_and_a_success_its_log(
    quick: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01", "sub-02")
    out = tmp_path / "out"
    assert run(bids, out).code == 0

    def fail_at_one(image: nib.Nifti1Image, *_: object, **__: object) -> np.ndarray:
        if np.array_equal(np.asarray(image.dataobj), make_head("FLAIR", 0).get_fdata()):
            raise ZeroDivisionError("no such luck")
        return np.eye(4)

    with monkeypatch.context() as patch:
        patch.setattr(registration, "align_to_template", fail_at_one)
        done = run(bids, out)
    log = out / "logs" / "crash-sub_01-align_to_template.txt"
    assert done.code == 1
    assert "sub-01 failed at align to template: ZeroDivisionError: no such luck" in done.text
    assert str(log) in done.text
    assert log.is_file()
    assert stats(out, "sub-01") is None
    assert stats(out, "sub-02") is not None

    assert run(bids, out).code == 0
    assert stats(out, "sub-01") is not None
    assert not log.exists()


def test_a_session_is_counted_once_whichever_run_was_chosen(
    quick: Counter[str], tmp_path: Path
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01_ses-1_run-1", "sub-01_ses-2", "sub-011_run-1")
    out = tmp_path / "out"
    assert run(bids, out).code == 0
    (out / "logs" / "crash-sub_01_ses_1_run_1-conform_FLAIR.txt").touch()
    for contrast in ("FLAIR", "T1w"):
        first = image_path(bids, "sub-01_ses-1_run-1", contrast)
        first.rename(image_path(bids, "sub-01_ses-1_run-2", contrast))
    assert run(bids, out, "--participant-label", "01", "--session-label", "1").code == 0
    page = (out / "sub-01.html").read_text()
    assert 'id="sub-01_ses-1_run-2"' in page and 'id="sub-01_ses-2"' in page
    assert "sub-01_ses-1_run-1" not in page
    assert [path.name for path in (out / "logs").iterdir()] == ["CITATION.md"]
    figures = {path.name.split("_desc")[0] for path in (out / "sub-01" / "figures").iterdir()}
    assert figures == {"sub-01_ses-1_run-2", "sub-01_ses-2"}
    assert run(bids, out, level="group").code == 0
    rows = [row.split("\t")[:3] for row in (out / "lesions.tsv").read_text().splitlines()[1:]]
    assert rows == [
        ["sub-01", "ses-1", "run-2"],
        ["sub-01", "ses-2", "n/a"],
        ["sub-011", "n/a", "run-1"],
    ]


def test_numbers_outlive_a_failure_to_draw_them(
    quick: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no such luck")

    monkeypatch.setattr(panels, "lesion_mosaic", fail)
    done = run(make_dataset(tmp_path / "bids", "sub-01"), tmp_path / "out")
    assert done.code == 1
    assert "0 complete, 1 failed" in done.text
    assert "sub-01 failed at draw " in done.text
    [row] = [line.split() for line in done.text.splitlines() if "│" in line]
    measured = stats(done.out, "sub-01")
    assert measured is not None
    assert [row[1], row[3], row[7]] == ["sub-01", "FAILED", f"{measured['load_ml']:.2f}"]
    page = (done.out / "sub-01.html").read_text()
    assert "This scan failed" in page and "no such luck" in page
    assert "The numbers below were written before the failure" in page
    assert f"{measured['load_ml']:.2f} <small>ml" in page
    assert "Table of the lesions (1)" in page


def test_a_scan_that_was_not_reached_is_not_called_complete(
    quick: Counter[str], tmp_path: Path
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01", "sub-02")
    out = tmp_path / "out"
    assert run(bids, out).code == 0
    truncate(image_path(bids, "sub-01", "FLAIR"))
    done = run(bids, out, "--stop-on-first-crash")
    assert done.code == 1
    assert "sub-02 failed: did not finish" in done.text
    assert stats(out, "sub-02") is None


def test_an_error_of_nipype_itself_fails_its_scan_only(quick: Counter[str], tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01", "sub-02")
    in_the_way = tmp_path / f"work/{STEPS}/cascade_bids/sub_01/conform_FLAIR"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    done = run(bids, tmp_path / "out", "-w", tmp_path / "work")
    assert done.code == 1
    assert "sub-01 failed at conform FLAIR: " in done.text
    assert stats(done.out, "sub-02") is not None


def test_an_interrupted_run_says_how_to_go_on(
    quick: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    bids = make_dataset(tmp_path / "bids", "sub-01")
    assert run(bids, tmp_path / "out").code == 0
    monkeypatch.setattr(participant, "init_participant_wf", interrupt)
    done = run(bids, tmp_path / "out")
    assert done.code == 130
    assert "interrupted" in done.text
    assert "did not finish" in (done.out / "sub-01.html").read_text()
    assert stats(done.out, "sub-01") is None
    assert_tidy(done.out)


@pytest.mark.parametrize("nprocs", ["1", "2"])
def test_a_run_that_is_told_to_end_leaves_nothing_behind(nprocs: str, tmp_path: Path) -> None:
    bids, temporary = make_dataset(tmp_path / "bids", "sub-01"), tmp_path / "tmp"
    temporary.mkdir()
    command = (sys.executable, "-m", "cascade_bids", bids, tmp_path / "out", "participant")
    started = subprocess.Popen(
        [*command, "--nprocs", nprocs],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(temporary.rglob("_node.pklz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)  # into the step
    workers = psutil.Process(started.pid).children(recursive=True)
    started.terminate()
    started.terminate()  # a batch system may tell the program and its shell, which tells it too
    told = started.communicate(timeout=60)[1]
    assert started.returncode == 130, told
    assert "interrupted" in told
    assert list(temporary.iterdir()) == []
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert "did not finish" in (tmp_path / "out" / "sub-01.html").read_text()


def test_damaged_statistics_fail_the_group_level(quick: Counter[str], tmp_path: Path) -> None:
    bids, out = make_dataset(tmp_path / "bids", "sub-01", "sub-02"), tmp_path / "out"
    assert run(bids, out).code == 0
    truncate(out / "sub-01" / "anat" / "sub-01_desc-lesions_stats.json")
    done = run(bids, out, level="group")
    assert done.code == 1
    assert "sub-01_desc-lesions_stats.json is damaged" in done.text
    assert (out / "lesions.tsv").read_text().splitlines()[1].startswith("sub-02\t")


def test_the_work_folder_is_emptied_when_asked(quick: Counter[str], tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    work = tmp_path / "work"
    assert run(bids, tmp_path / "out", "-w", work, "--clean-workdir").code == 0
    assert list(work.iterdir()) == []


def test_the_work_of_another_run_is_left_when_the_folder_is_emptied(
    quick: Counter[str], tmp_path: Path
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01", "sub-02")
    options = tmp_path / "out", "-w", tmp_path / "work", "--participant-label"
    assert run(bids, *options, "02").code == 0
    before = contents(tmp_path / "work")
    assert run(bids, *options, "01", "--clean-workdir").code == 0
    assert contents(tmp_path / "work") == before
    assert not (tmp_path / f"work/{STEPS}/cascade_bids/sub_01").exists()
