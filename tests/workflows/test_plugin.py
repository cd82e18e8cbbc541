"""The plugin: where steps run, which comes first, and what ends with the run."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from nipype import Function, Node, Workflow
from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, TraitedSpec, traits

from cascade_bids.workflows.plugin import WorkersPlugin

# The steps run in processes of their own, which get them as source text.


def convolve(threads: int) -> list[int]:
    import os

    import torch

    torch.set_num_threads(threads)
    image = torch.ones(1, 4, 32, 32, 32)
    done = torch.nn.functional.conv3d(image, torch.ones(4, 4, 3, 3, 3))
    return [torch.get_num_threads(), int(done.max()), os.getppid()]


def correct(threads: int) -> list[int]:
    import os

    import ants
    import numpy as np

    image = np.random.default_rng(0).random((24, 24, 24)).astype(np.float32) + 1
    corrected = ants.n4_bias_field_correction(ants.from_numpy(image))
    return [corrected.dimension, threads, os.getppid()]


def note(path: str, seconds: float) -> str:
    import time

    begin = time.monotonic()
    time.sleep(seconds)
    with open(path, "a") as file:  # noqa: PTH123
        file.write(f"{begin} {time.monotonic()}\n")
    return path


def fail(path: str) -> str:
    raise ZeroDivisionError(path)


def run(workflow: Workflow, folder: Path, told: list[str] | None = None, **arguments: Any) -> None:
    workflow.base_dir = str(folder)
    workflow.config["execution"]["crashdump_dir"] = str(folder)
    limits = {"n_procs": 2, "memory_gb": 8, "raise_insufficient": False}

    def tell(node: Node, status: str) -> None:
        if told is not None:
            told.append(f"{node.fullname} {status}")

    workflow.run(plugin=WorkersPlugin({**limits, "status_callback": tell, **arguments}))


def make_chains(function: Callable, scans: int, *steps: str, **inputs: object) -> Workflow:
    workflow = Workflow("all")
    for number in range(scans):
        chain, before = Workflow(f"scan{number}"), None
        for name in steps:
            node = Node(Function(function=function), name)
            for key, value in inputs.items():
                setattr(node.inputs, key, value)
            if before is None:
                chain.add_nodes([node])
            else:
                chain.connect(before, "out", node, "path")
            before = node
        workflow.add_nodes([chain])
    return workflow


def test_libraries_with_threads_work_in_processes_of_one_server(tmp_path: Path) -> None:
    workflow = Workflow("all")
    nodes = [
        Node(Function(function=function), name)
        for name, function in {"a": convolve, "b": correct, "c": convolve}.items()
    ]
    for node in nodes:
        node.inputs.threads = 2
    workflow.add_nodes(nodes)
    run(workflow, tmp_path)
    results = [load(tmp_path, name) for name in "abc"]
    servers = {result.pop() for result in results}
    assert results == [[2, 108], [3, 2], [2, 108]]
    assert len(servers) == 1


def load(folder: Path, name: str) -> list[int]:
    from nipype.utils.filemanip import loadpkl

    return list(loadpkl(folder / "all" / name / f"result_{name}.pklz").outputs.out)


def test_a_scan_is_finished_before_further_ones_are_begun(tmp_path: Path) -> None:
    workflow = make_chains(note, 3, "one", "two", path=str(tmp_path / "x"), seconds=0)
    told: list[str] = []
    run(workflow, tmp_path, told, n_procs=1)
    order = [line.split()[0] for line in told if line.endswith("start")]
    assert order == [f"all.scan{n}.{step}" for n in range(3) for step in ("one", "two")]


@pytest.mark.parametrize(("cores", "memory"), [(2, 0.9), (1, 0.1)])
def test_steps_that_do_not_fit_together_run_after_each_other(
    tmp_path: Path, cores: int, memory: float
) -> None:
    workflow = make_chains(note, 3, "one", path=str(tmp_path / "x"), seconds=0.2)
    for node in (workflow.get_node(f"scan{n}.one") for n in range(3)):
        node._mem_gb = memory
    run(workflow, tmp_path, n_procs=cores, memory_gb=1)
    times = sorted(
        tuple(map(float, line.split())) for line in (tmp_path / "x").read_text().splitlines()
    )
    assert len(times) == 3
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(times))


class _ThreadsInput(BaseInterfaceInputSpec):
    threads = traits.Int(nohash=True)
    seconds = traits.Float()


class _ThreadsOutput(TraitedSpec):
    threads = traits.Int()


class Threads(SimpleInterface):
    """Takes a while, and gives the number of threads it was given."""

    input_spec = _ThreadsInput
    output_spec = _ThreadsOutput

    def _run_interface(self, runtime: Any) -> Any:
        time.sleep(self.inputs.seconds)
        self._results["threads"] = self.inputs.threads
        return runtime


def test_a_step_of_more_threads_than_cores_runs_alone_and_keeps_them(tmp_path: Path) -> None:
    # So the result does not depend on which cores happen to be free.
    workflow = Workflow("all")
    steps = [Node(Threads(threads=n, seconds=0.2), f"of{n}", n_procs=n) for n in (1, 4)]
    workflow.add_nodes(steps)
    running: list[str] = []
    together: list[int] = []

    def tell(node: Node, status: str) -> None:
        (running.append if status == "start" else running.remove)(node.name)
        together.append(len(running))

    run(workflow, tmp_path, n_procs=3, status_callback=tell)
    assert max(together) == 1
    assert workflow.get_node("of4").inputs.threads == 4


def test_a_failure_in_this_process_is_one_of_its_scan_alone(tmp_path: Path) -> None:
    workflow = make_chains(fail, 2, "first", "last", path=str(tmp_path / "x"))
    for number in range(2):
        workflow.get_node(f"scan{number}.first").run_without_submitting = True
    workflow.get_node(
        "scan1.first"
    ).interface.inputs.function_str = "def fail(path):\n    return path\n"
    told: list[str] = []
    with pytest.raises(RuntimeError, match="raised"):
        run(workflow, tmp_path, told)
    assert "all.scan0.first exception" in told
    assert "all.scan0.last start" not in told
    assert "all.scan1.first end" in told
    assert "all.scan1.last exception" in told


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can kill a process at any moment")
def test_all_processes_end_when_the_run_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from nipype import Function, Node, Workflow\n"
        "from cascade_bids.workflows.plugin import WorkersPlugin\n"
        "def wait(path):\n"
        "    import ctypes\n"
        "    open(path, 'w').close()\n"
        "    ctypes.PyDLL(None).sleep(600)  # no other thread goes on, as in ANTs\n"
        "    return path\n"
        "if __name__ == '__main__':\n"
        "    workflow = Workflow('all', base_dir=sys.argv[1])\n"
        "    node = Node(Function(function=wait), 'wait')\n"
        "    node.inputs.path = sys.argv[1] + '/begun'\n"
        "    workflow.add_nodes([node])\n"
        "    workflow.run(plugin=WorkersPlugin({'n_procs': 1, 'memory_gb': 8}))\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    main = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    deadline = time.monotonic() + 120
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    others = psutil.Process(main.pid).children(recursive=True)
    assert len(others) >= 2  # the server and the step
    main.send_signal(signal.SIGKILL)
    main.wait()
    assert psutil.wait_procs(others, timeout=20)[1] == []


def test_a_temporary_folder_with_a_long_name_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("a_name_as_batch_systems_make_it_" * 4)
    folder.mkdir()
    code = (
        "from cascade_bids.workflows.plugin import _server_context\n"
        "if __name__ == '__main__':\n"
        "    process = _server_context().Process(target=print, args=('ran',))\n"
        "    process.start(); process.join(); assert process.exitcode == 0\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], env=os.environ | {"TMPDIR": str(folder)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not list(folder.iterdir())
