"""Workflows of many scans in several processes: what one process does to the others."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from nipype import Function, Node, Workflow

from cascade_bids.bids.scan import Scan
from cascade_bids.config import ResourceConfig
from cascade_bids.workflows.execution import CLAIMS, STEPS, run_workflow, workflow_name

# The steps run in processes of their own, which get them as source text.


def die(folder: str) -> str:
    import os
    import signal
    from pathlib import Path

    (Path(folder) / "dead").touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return folder


def outlive(folder: str) -> str:
    import time
    from pathlib import Path

    deadline = time.monotonic() + 60
    while not (Path(folder) / "dead").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # for the news to get around
    (Path(folder) / "survived").touch()
    return folder


def refuse(folder: str) -> str:
    from pathlib import Path

    from cascade_bids.errors import ScanError

    (Path(folder) / "dead").touch()
    raise ScanError("this image\n is empty")


def finish(folder: str) -> str:
    from pathlib import Path

    (Path(folder) / "finished").touch()
    return folder


def make_workflow(folder: Path, *steps: Callable[[str], str]) -> tuple[Workflow, list[Scan]]:
    """Give each step a scan of its own, with ``finish`` behind it."""
    scans = [Scan(f"{number:02}", None, None) for number in range(1, len(steps) + 1)]
    workflow = Workflow("cascade_bids")
    for scan, step in zip(scans, steps, strict=True):
        journey = Workflow(workflow_name(scan))
        first = Node(Function(function=step), "first")
        first.inputs.folder = str(folder)
        journey.connect(first, "out", Node(Function(function=finish), "last"), "folder")
        workflow.add_nodes([journey])
    return workflow, scans


@pytest.fixture
def resources(tmp_path: Path) -> ResourceConfig:
    return ResourceConfig(work_dir=tmp_path / "work", nprocs=2)


def test_a_step_that_is_killed_fails_its_scan_alone(
    tmp_path: Path, resources: ResourceConfig
) -> None:
    workflow, scans = make_workflow(tmp_path, die, outlive, finish)
    failures: dict[str, tuple[str, str]] = {}
    run_workflow(workflow, scans, resources, tmp_path / "logs", failures)
    assert list(failures) == ["sub_01"]
    step, cause = failures["sub_01"]
    assert step == "first"
    assert "memory" in cause and "--nprocs" in cause
    assert (tmp_path / "survived").exists()
    assert (tmp_path / "finished").exists()
    assert multiprocessing.active_children() == []


def test_a_step_without_a_folder_fails_its_scan_alone(
    tmp_path: Path, resources: ResourceConfig
) -> None:
    in_the_way = tmp_path / f"work/{STEPS}/cascade_bids/sub_01/first"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    workflow, scans = make_workflow(tmp_path, finish, finish)
    failures: dict[str, tuple[str, str]] = {}
    run_workflow(workflow, scans, resources, tmp_path / "logs", failures)
    assert list(failures) == ["sub_01"]
    assert str(in_the_way) in failures["sub_01"][1]


def test_the_first_failure_ends_the_run_when_asked(tmp_path: Path) -> None:
    resources = ResourceConfig(work_dir=tmp_path / "work", nprocs=2, stop_on_first_crash=True)
    workflow, scans = make_workflow(tmp_path, refuse, outlive, finish)
    failures: dict[str, tuple[str, str]] = {}
    run_workflow(workflow, scans, resources, tmp_path / "logs", failures)
    assert failures == {"sub_01": ("first", "this image is empty")}
    # What had begun has ended, and nothing more begins.
    assert (tmp_path / "survived").exists()
    assert not (tmp_path / "finished").exists()
    assert multiprocessing.active_children() == []


def test_no_crash_files_are_left_in_the_work_folder(
    tmp_path: Path, resources: ResourceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    workflow, scans = make_workflow(tmp_path, finish)
    monkeypatch.setattr(workflow, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_workflow(workflow, scans, resources, tmp_path / "logs", {})
    assert [path.name for path in (tmp_path / "work").rglob("*")] == [STEPS, CLAIMS]
