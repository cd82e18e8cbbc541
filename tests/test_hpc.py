"""The submit scripts, with stand-ins of the schedulers that run what is submitted at once."""

import os
import subprocess
from pathlib import Path

import pytest

HPC = Path(__file__).resolve().parents[1] / "hpc"

PROGRAM = """#!/usr/bin/env bash
if [ "$1" = plan ]; then
    for word in "$@"; do printf '[%s]' "$word"; done > "$CALLS-plan"
    printf '2\\n3\\n10\\n'
    exit
fi
for word in "$@"; do printf '[%s]' "$word"; done >> "$CALLS"
echo >> "$CALLS"
"""

SCHEDULER = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$SUBMITTED"
tasks=
while [[ "$1" == -* ]]; do
    case $1 in
        --array=*) tasks=${1#--array=};;
        -J|-t) tasks=$2; shift;;
        --) shift; break;;
        -v) export "${2?}"; shift;;
        -terse|-V|--*) ;;
        -pe) shift 2;;
        -*) shift;;
    esac
    shift
done
tasks=${tasks%\\%*}
if [ -n "$tasks" ]; then
    for task in $(seq "${tasks%-*}" "${tasks#*-}"); do env "$INDEX=$task" "$@"; done
else
    "$@"
fi
echo 17
"""

INDEX = {"slurm": "SLURM_ARRAY_TASK_ID", "pbs": "PBS_ARRAY_INDEX", "sge": "SGE_TASK_ID"}


def submit(
    system: str, tmp_path: Path, *options: str, people: str = "2 3 10", wanted: str = ""
) -> tuple[str, str]:
    """Submit a dataset; give the calls of the program and what the scheduler was told."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    program = PROGRAM.replace("2\\n3\\n10\\n", "".join(f"{p}\\n" for p in people.split()))
    for name, text in {"cascade-bids": program, "sbatch": SCHEDULER, "qsub": SCHEDULER}.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    bids = tmp_path / "b i d s"
    bids.mkdir()
    environment = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SUBMITTED": str(tmp_path / "submitted"),
        "INDEX": INDEX[system],
        "PARTICIPANTS": wanted,
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        [HPC / f"submit_{system}.sh", bids, tmp_path / "out", *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    texts = [(tmp_path / name) for name in ("calls", "submitted")]
    calls, submitted = (path.read_text() if path.exists() else "" for path in texts)
    return calls, submitted


@pytest.mark.parametrize("system", list(INDEX))
def test_every_participant_is_a_task_and_the_group_comes_last(system, tmp_path):
    calls, submitted = submit(system, tmp_path, str(tmp_path / "work"), "--method", "my card.json")
    lines = calls.splitlines()
    assert len(lines) == 4
    for label, line in zip(("2", "3", "10"), lines[:-1], strict=True):
        assert f"[participant][--participant-label][{label}]" in line
        assert line.startswith(f"[{tmp_path / 'b i d s'}][{tmp_path / 'out'}]")
        assert line.endswith(f"[--work-dir][{tmp_path / 'work'}][--method][my card.json]")
    assert lines[-1] == f"[{tmp_path / 'b i d s'}][{tmp_path / 'out'}][group]"
    first, second = submitted.splitlines()
    assert "1-3" in first
    assert {"slurm": "afterok:17", "pbs": "depend=afterok:17", "sge": "-hold_jid 17"}[
        system
    ] in second


def test_who_and_which_images_are_chosen_by_the_list(tmp_path):
    chosen = ("-v", "--session-label", "1", "--tta")
    calls, _ = submit("slurm", tmp_path, "scratch", *chosen, wanted="2 3")
    planned = (tmp_path / "calls-plan").read_text()
    assert planned.endswith("[-v][--session-label][1][--tta][--participant-label][2][3]")
    assert "--work-dir" not in planned
    for label, line in zip(("2", "3", "10"), calls.splitlines()[:-1], strict=True):
        assert line.count("--participant-label") == 1
        assert f"[--participant-label][{label}]" in line
        assert line.endswith("[-v][--session-label][1][--tta]")


@pytest.mark.parametrize("system", list(INDEX))
def test_one_participant_is_an_array_too(system, tmp_path):
    calls, _ = submit(system, tmp_path, "scratch", people="7")
    assert "[--participant-label][7]" in calls.splitlines()[0]
    assert not list(tmp_path.glob("cascade_bids-*"))  # the scratch folder is gone


@pytest.mark.parametrize("system", list(INDEX))
def test_the_group_level_alone_is_submitted_when_all_are_complete(system, tmp_path):
    calls, submitted = submit(system, tmp_path, "scratch", people="")
    assert calls == f"[{tmp_path / 'b i d s'}][{tmp_path / 'out'}][group]\n"
    assert len(submitted.splitlines()) == 1
    assert not list((tmp_path / "out" / "logs").iterdir())


@pytest.mark.parametrize("system", list(INDEX))
@pytest.mark.parametrize(
    ("words", "message"),
    [((), "Usage"), (("bids", "out", "scratch", "--participant-label", "1"), "PARTICIPANTS")],
)
def test_wrong_use_is_told(system, words, message, tmp_path):
    done = subprocess.run(
        [HPC / f"submit_{system}.sh", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
