"""Several runs at once, each in a process of its own, into one output folder."""

import csv
import multiprocessing
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from cascade_bids.files import claim
from cascade_bids.workflows.execution import CLAIMS, STEPS

from .tiny_heads import Run, assert_tidy, contents, make_dataset, run, stand_ins, stats, steps_here


def run_one(barrier: threading.Barrier, arguments: Sequence[object]) -> Run:
    with stand_ins(), steps_here():
        barrier.wait()
        return run(*arguments)


def run_at_once(*runs: Sequence[object]) -> list[Run]:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(len(runs)) as pool:
        barrier = manager.Barrier(len(runs))
        return pool.starmap(run_one, [(barrier, arguments) for arguments in runs], chunksize=1)


def test_eight_processes_write_what_one_would(quick: object, tmp_path: Path) -> None:
    labels = [f"0{number}" for number in range(1, 9)]
    bids = make_dataset(tmp_path / "bids", *(f"sub-{label}" for label in labels))
    alone, out = tmp_path / "alone", tmp_path / "out"
    assert run(bids, alone).code == 0
    done = run_at_once(*((bids, out, "--participant-label", label) for label in labels))
    assert [(one.code, "1 complete, 0 failed" in one.text) for one in done] == [(0, True)] * 8
    for folder in (alone, out):
        assert run(bids, folder, level="group").code == 0
    assert contents(out) == contents(alone)
    assert_tidy(out)
    with (out / "lesions.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == [f"sub-{label}" for label in labels]


def test_of_two_runs_of_a_participant_one_is_the_result(quick: object, tmp_path: Path) -> None:
    bids, out = make_dataset(tmp_path / "bids", "sub-01"), tmp_path / "out"
    options = ("--random-seed", 0, "--output-spaces", "T1w"), ("--random-seed", 1)
    both = [(bids, out, "-w", tmp_path / f"work{n}", *options[n]) for n in range(2)]
    done = run_at_once(*both, both[0], both[1])
    for one in done:
        assert one.code == 0 or "at work on sub-01 in the same work folder" in one.text
    winner = stats(out, "sub-01")["random_seed"]
    assert run(bids, tmp_path / "alone", *options[winner]).code == 0
    # The page of each run has the same methods text here.
    assert contents(out) == contents(tmp_path / "alone")
    assert_tidy(out)


@pytest.mark.parametrize("option", [(), ("--clean-workdir",)])
def test_a_work_folder_belongs_to_one_run_of_a_participant(
    quick: object, tmp_path: Path, option: tuple[str, ...]
) -> None:
    bids, work = make_dataset(tmp_path / "bids", "sub-01", "sub-02"), tmp_path / "work"
    options = tmp_path / "out", "-w", work
    assert run(bids, *options).code == 0
    before = contents(work / STEPS / "cascade_bids" / "sub_01")
    holder = multiprocessing.get_context("spawn").Process(
        target=hold, args=(work / STEPS / CLAIMS, tmp_path / "held")
    )
    holder.start()
    try:
        while not (tmp_path / "held").exists():
            assert holder.is_alive()
        done = run(bids, *options, *option)
        assert done.code == 1
        assert "sub-01 failed: another run is at work on sub-01 in the same work" in done.text
        assert "1 complete, 1 failed" in done.text
        assert contents(work / STEPS / "cascade_bids" / "sub_01") == before
    finally:
        holder.kill()
        holder.join()
    assert run(bids, *options).code == 0


def hold(lock: Path, told: Path) -> None:
    """Claim a scan until this process is killed."""
    with claim(lock, ["sub_01"]):
        told.touch()
        threading.Event().wait()
