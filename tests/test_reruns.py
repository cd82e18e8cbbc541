"""Runs that go on where others ended, were broken off, or share a folder."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from cascade_bids import files
from cascade_bids.app import participant
from cascade_bids.errors import CascadeBidsError
from cascade_bids.preprocess import registration
from cascade_bids.report import panels
from cascade_bids.workflows.execution import STEPS

from .tiny_heads import (
    METHOD,
    assert_tidy,
    call,
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


def fail_with(cause: BaseException) -> Callable:
    def fail(*_: object, **__: object) -> None:
        raise cause

    return fail


def result(out: Path) -> dict[str, str]:
    """Give the hashes of all files that are a result: no logs, and no report of the last run."""
    return {
        name: content
        for name, content in contents(out).items()
        if not name.startswith("logs/") and not name.endswith(".html")
    }


def assert_earlier(out: Path, label: str, before: dict[str, str], cause: str) -> None:
    """Report, group level and plan tell that the result of a scan is of an earlier run."""
    assert result(out) == before
    page = (out / f"{label.split('_')[0]}.html").read_text()
    assert cause in page
    assert "The numbers and figures below are of an earlier run" in page
    assert f"{stats(out, label)['load_ml']:.2f} <small>ml" in page
    assert f"{label}_desc-lesions_mosaic.svg" in page
    assert "Table of the lesions (1)" in page
    done = run(out, out, level="group")
    assert done.code == 0
    group = (out / "group.html").read_text()
    assert f"The numbers of {label} are of an earlier run, since its last one" in group
    assert cause in group
    for name in ("lesions.tsv", "lesions.json", "group.html"):
        (out / name).unlink()


def test_a_failure_keeps_the_earlier_result_and_a_success_removes_its_log(
    quick: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01", "sub-02")
    out = tmp_path / "out"
    assert run(bids, out).code == 0
    before = result(out)

    def fail_at_one(image: nib.Nifti1Image, *_: object, **__: object) -> np.ndarray:
        if np.array_equal(np.asarray(image.dataobj), make_head("FLAIR", 0).get_fdata()):
            raise ZeroDivisionError("no such luck")
        return np.eye(4)

    with monkeypatch.context() as patch:
        patch.setattr(registration, "align_to_template", fail_at_one)
        done = run(bids, out)
    log = out / "logs" / "crash-sub_01-align_to_template.txt"
    assert done.code == 1
    assert "1 complete, 1 failed" in done.text
    assert "sub-01 failed at align to template: ZeroDivisionError: no such luck" in done.text
    assert "sub-01: the result of an earlier run stays in place" in done.text
    [row] = [line.split("│") for line in done.text.splitlines() if "FAILED" in line]
    assert row[3].strip() == row[4].strip() == "", "numbers that are not of this run"
    assert str(log) in done.text
    assert log.is_file()
    assert_earlier(out, "sub-01", before, "no such luck")
    assert "This scan failed" not in (out / "sub-02.html").read_text()
    assert call(out, "plan", bids, out, *METHOD).text.split() == ["01"]

    assert run(bids, out).code == 0
    assert result(out) == before
    assert "This scan failed" not in (out / "sub-01.html").read_text()
    assert [path.name for path in (out / "logs").iterdir()] == ["CITATION.md"]
    assert call(out, "plan", bids, out, *METHOD).text == ""


def test_a_run_that_finds_no_image_keeps_the_earlier_results(
    quick: Counter[str], tmp_path: Path
) -> None:
    bids, out = make_dataset(tmp_path / "bids", "sub-01_ses-1_run-1"), tmp_path / "out"
    assert run(bids, out).code == 0
    before = result(out)
    filters = tmp_path / "filter.json"
    filters.write_text('{"flair": {"acquisition": "none"}}')
    assert run(bids, out, "--bids-filter-file", filters).code == 70
    assert_earlier(out, "sub-01_ses-1_run-1", before, "FLAIR")


def test_a_new_result_replaces_all_of_the_earlier_one(quick: Counter[str], tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01_run-1", "sub-010")
    out, one = tmp_path / "out", ("--participant-label", "01")
    assert run(bids, out, "--output-spaces", "T1w").code == 0
    by_hand = image_path(out, "sub-01_desc-byhand", "mask")
    by_hand.touch()
    other = {name for name in contents(out) if name.startswith("sub-010")}
    for contrast in ("FLAIR", "T1w"):
        first = image_path(bids, "sub-01_run-1", contrast)
        first.rename(image_path(bids, "sub-01_run-2", contrast))
    assert run(bids, out, *one).code == 0
    assert run(bids, tmp_path / "anew", *one).code == 0
    mine = set(contents(tmp_path / "anew")) | {str(by_hand.relative_to(out))}
    assert set(contents(out)) == mine | other
    assert f"{image_path(out, 'sub-010_space-T1w_label-lesion', 'mask').relative_to(out)}" in other


def full_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let copies of a file fail for want of room, half-way."""
    copy = shutil.copyfile

    def fail(source: Path, target: Path) -> None:
        if name in str(target):
            Path(target).write_bytes(Path(source).read_bytes()[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(files.shutil, "copyfile", fail)


@pytest.mark.parametrize("name", ["_probseg.nii.gz", "_xfm.txt"])
def test_a_full_disk_keeps_the_earlier_result(
    quick: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bids, out = make_dataset(tmp_path / "bids", "sub-01"), tmp_path / "out"
    assert run(bids, out).code == 0
    before = result(out)
    full_disk(monkeypatch, name)
    done = run(bids, out, "--random-seed", 1)
    assert done.code == 1
    assert "sub-01 failed at save scan: " in done.text
    assert "No space left on device" in done.text and name in done.text
    assert_earlier(out, "sub-01", before, "No space left on device")
    assert_tidy(out)
    assert not list(out.rglob("*.lock"))


def test_a_result_that_is_half_replaced_does_not_count(
    quick: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bids, out = make_dataset(tmp_path / "bids", "sub-01"), tmp_path / "out"
    assert run(bids, out).code == 0
    move = Path.replace

    def die(part: Path, target: Path) -> None:
        if target.name.endswith("_probseg.nii.gz"):
            raise OSError(errno.EIO, "Input/output error")
        move(part, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        assert run(bids, out, "--random-seed", 1).code == 1
    assert stats(out, "sub-01") is None
    page = (out / "sub-01.html").read_text()
    assert "Input/output error" in page and "earlier run" not in page
    assert run(bids, out, level="group").code == 2
    assert run(bids, out, "--random-seed", 1).code == 0
    assert stats(out, "sub-01")["random_seed"] == 1
    assert_tidy(out)


def test_reports_that_cannot_be_written_fail_their_scans(
    quick: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01", "sub-02")
    error = CascadeBidsError("sub-01.html can't be written (No space left on device)")
    write = participant.write_subject_report

    def fail_at_one(root: Path, name: str, *arguments: object, **options: object) -> Path:
        if name == "sub-01":
            raise error
        return write(root, name, *arguments, **options)

    monkeypatch.setattr(participant, "write_subject_report", fail_at_one)
    done = run(bids, tmp_path / "out")
    assert done.code == 1
    assert "1 complete, 1 failed" in done.text
    assert f"sub-01 failed: {error}" in done.text
    assert (done.out / "sub-02.html").is_file()


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
    bids = make_dataset(tmp_path / "bids", "sub-01")
    assert run(bids, tmp_path / "out").code == 0
    monkeypatch.setattr(panels, "lesion_mosaic", fail_with(ZeroDivisionError("no such luck")))
    done = run(bids, tmp_path / "out", "--random-seed", 1)
    assert done.code == 1
    assert "0 complete, 1 failed" in done.text
    assert "sub-01 failed at draw " in done.text
    [row] = [line.split() for line in done.text.splitlines() if "│" in line]
    measured = stats(done.out, "sub-01")
    assert measured is not None
    assert [row[1], row[3], row[7]] == ["sub-01", "FAILED", f"{measured['load_ml']:.2f}"]
    assert measured["random_seed"] == 1
    assert not list(done.out.rglob("*.svg")), "figures of another run"
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
    assert "sub-02: the result of an earlier run stays in place" in done.text


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
    bids = make_dataset(tmp_path / "bids", "sub-01")
    assert run(bids, tmp_path / "out").code == 0
    before = result(tmp_path / "out")
    monkeypatch.setattr(participant, "init_participant_wf", fail_with(KeyboardInterrupt()))
    done = run(bids, tmp_path / "out")
    assert done.code == 130
    assert "interrupted" in done.text
    assert_earlier(done.out, "sub-01", before, "did not finish")
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
