"""The submit scripts, with stand-ins of the schedulers that run what is submitted at once."""

import fcntl
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

HPC = Path(__file__).resolve().parents[1] / "hpc"

PROGRAM = """#!/usr/bin/env bash
if [ "$1" = plan ]; then
    for word in "$@"; do printf '[%s]' "$word"; done >> "$CALLS-plan"
    echo >> "$CALLS-plan"
    # A task asks about its participant, and the group job, when tasks have run, about all again.
    case " $* " in *" --nprocs "*) echo $MISSING; exit;; esac
    [ ! -e "$CALLS" ] || { echo $LEFT; exit; }
    printf '%s\\n' $PEOPLE
    exit "$PLAN_CODE"
fi
for word in "$@"; do printf '[%s]' "$word"; done >> "$CALLS"
echo >> "$CALLS"
case " $* " in
    *" participant "*)
        # Is slow to end when it is told to.
        if [ -n "$SLOW" ]; then
            trap 'touch "$SLOW-told"; sleep 1; touch "$SLOW-ended"; exit 130' TERM
            touch "$SLOW"
            for _ in $(seq 300); do sleep 0.1; done
        fi;;
    *) exit "$GROUP_CODE";;
esac
"""

SCHEDULER = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$SUBMITTED"
case "$*" in *cascade_bids_group*) [ -z "$NO_GROUP" ] || exit 1;; esac
tasks=
while [[ "${1:-}" == -* ]]; do
    case $1 in
        --array=*) tasks=${1#--array=};;
        -J|-t) tasks=$2; shift;;
        -v) export "${2?}"; shift;;
        -terse|-V|--*) ;;
        -pe) shift 2;;
        *) shift;;
    esac
    shift
done
[ $# -gt 0 ] || set -- bash -c "$(cat)"
tasks=${tasks%\\%*}
for task in $([ -z "$tasks" ] && echo 0 || seq "${tasks%-*}" "${tasks#*-}"); do
    [ "$task" = 0 ] || export "$INDEX=$task"
    "$@" >> "$LOG" 2>&1
    echo "exit code $?" >> "$LOG"
done
echo 17
"""

INDEX = {"slurm": "SLURM_ARRAY_TASK_ID", "pbs": "PBS_ARRAY_INDEX", "sge": "SGE_TASK_ID"}
CANCEL = {"slurm": "scancel", "pbs": "qdel", "sge": "qdel"}


@dataclass(frozen=True)
class Submitted:
    """What became of a submission."""

    code: int
    told: str
    """What the submit script printed of errors."""
    calls: list[str]
    """How the program was run."""
    plans: list[str]
    """How it was asked who is missing."""
    commands: list[str]
    """What the scheduler was told."""
    log: str
    """What tasks and group job printed, and their exit codes."""


def submit(
    system: str,
    tmp_path: Path,
    *options: str,
    people: str = "2 3 10",
    bids: str = "b i d s",
    **settings: str,
) -> Submitted:
    """Submit a dataset."""
    binaries = tmp_path / "bin"
    binaries.mkdir(exist_ok=True)
    stand_ins = {"cascade-bids": PROGRAM, "sbatch": SCHEDULER, "qsub": SCHEDULER}
    for name in ("scancel", "qdel"):
        stand_ins[name] = f'#!/usr/bin/env bash\necho "{name} $*" >> "$SUBMITTED"\n'
    for name, text in stand_ins.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    (tmp_path / "b i d s").mkdir(exist_ok=True)
    names = ("calls", "calls-plan", "submitted", "log")
    environment = {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        **{name.upper(): str(tmp_path / name) for name in ("calls", "submitted", "log")},
        "INDEX": INDEX[system],
        "PEOPLE": people,
        "MISSING": "someone",
        "LEFT": "",
        "PLAN_CODE": "0",
        "NO_GROUP": "",
        "SLOW": "",
        "GROUP_CODE": "0",
        "TMPDIR": str(tmp_path),
        **settings,
    }
    done = subprocess.run(
        [HPC / f"submit_{system}.sh", tmp_path / bids, tmp_path / "out", *options],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    texts = [path.read_text() if path.exists() else "" for path in (tmp_path / n for n in names)]
    calls, plans, commands = (text.splitlines() for text in texts[:3])
    return Submitted(done.returncode, done.stderr, calls, plans, commands, texts[3])


@pytest.mark.parametrize("system", list(INDEX))
def test_every_participant_is_a_task_and_the_group_comes_last(system, tmp_path):
    done = submit(system, tmp_path, str(tmp_path / "work"), "--method", "my card.json")
    assert done.code == 0, done.told
    assert len(done.calls) == 4
    for label, line in zip(("2", "3", "10"), done.calls[:-1], strict=True):
        assert f"[participant][--participant-label][{label}]" in line
        assert line.startswith(f"[{tmp_path / 'b i d s'}][{tmp_path / 'out'}]")
        assert line.endswith(f"[--work-dir][{tmp_path / 'work'}][--method][my card.json]")
    assert done.calls[-1] == f"[{tmp_path / 'b i d s'}][{tmp_path / 'out'}][group]"
    first, second = done.commands
    assert "1-3" in first
    assert {"slurm": "afterok:17", "pbs": "depend=afterok:17", "sge": "-hold_jid 17"}[
        system
    ] in second
    assert done.log == "exit code 0\n" * 4
    left = {path.name.split("-")[0] for path in (tmp_path / "out" / "logs").iterdir()}
    assert left == {"participants"}  # no lock stays


def test_who_and_which_images_are_chosen_by_the_list(tmp_path):
    chosen = ("-v", "--session-label", "1", "--tta")
    done = submit("slurm", tmp_path, "scratch", *chosen, PARTICIPANTS="2 3")
    planned = "[-v][--session-label][1][--tta][--participant-label][2][3]"
    assert done.plans[0].endswith(planned)
    assert done.plans[-1].endswith(planned)  # the group job misses the same ones
    assert "--work-dir" not in done.plans[0]
    for label, line in zip(("2", "3", "10"), done.calls[:-1], strict=True):
        assert line.count("--participant-label") == 1
        assert f"[--participant-label][{label}]" in line
        assert line.endswith("[-v][--session-label][1][--tta]")


@pytest.mark.parametrize("system", list(INDEX))
def test_one_participant_is_an_array_too(system, tmp_path):
    done = submit(system, tmp_path, "scratch", people="7")
    assert "[--participant-label][7]" in done.calls[0]
    assert not list(tmp_path.glob("cascade_bids-*"))  # the scratch folder is gone


@pytest.mark.parametrize("system", list(INDEX))
def test_the_group_level_alone_is_submitted_when_all_are_complete(system, tmp_path):
    done = submit(system, tmp_path, "scratch", people="")
    assert done.calls == [f"[{tmp_path / 'b i d s'}][{tmp_path / 'out'}][group]"]
    assert len(done.commands) == 1
    assert not list((tmp_path / "out" / "logs").iterdir())


@pytest.mark.parametrize("system", list(INDEX))
def test_the_group_job_fails_and_names_who_is_missing(system, tmp_path):
    done = submit(system, tmp_path, "scratch", LEFT="3")
    assert done.calls[-1].endswith("[group]")
    assert done.log.endswith("not complete: 3\nexit code 1\n")


def test_the_group_job_names_who_is_missing_if_there_is_no_group_level_either(tmp_path):
    done = submit("sge", tmp_path, "scratch", LEFT="2 3 10", GROUP_CODE="2")
    assert done.log.endswith("not complete: 2 3 10\nexit code 2\n")


def test_the_group_job_asks_with_the_work_folder_that_tasks_have(tmp_path):
    done = submit("slurm", tmp_path, "deep/work", "--use-plugin", "plugin.yml")
    work = f"[--work-dir][{tmp_path / 'deep/work'}]"
    assert work in done.plans[-1]
    assert "[--use-plugin][plugin.yml]" in done.plans[-1]


@pytest.mark.parametrize("signalled", ["the script", "the group of processes"])
def test_a_task_that_is_told_to_end_ends_after_its_program(signalled, tmp_path):
    submit("slurm", tmp_path, "scratch")  # for the stand-ins
    people, slow, out = tmp_path / "people", tmp_path / "slow", tmp_path / "out"
    people.write_text("2\n")
    settings = {"SLURM_ARRAY_TASK_ID": "1", "CALLS": str(tmp_path / "calls"), "MISSING": "2"}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    task = subprocess.Popen(
        [HPC / "participant.sh", people, tmp_path, out, "scratch"],
        env={"PATH": path, "TMPDIR": str(tmp_path), "SLOW": str(slow), **settings},
        cwd=tmp_path,
        start_new_session=True,
    )
    while not slow.exists():
        time.sleep(0.05)
    assert (out / "logs" / "lock-2").exists()
    if signalled == "the script":
        task.terminate()
    else:
        os.killpg(task.pid, signal.SIGTERM)
    assert task.wait(timeout=30) == 130
    assert (tmp_path / "slow-ended").exists()
    assert not (out / "logs" / "lock-2").exists()
    assert not list(tmp_path.glob("cascade_bids-*"))


@pytest.mark.parametrize("system", list(INDEX))
def test_tasks_without_a_group_job_are_taken_back(system, tmp_path):
    done = submit(system, tmp_path, "scratch", NO_GROUP="yes")
    assert done.code == 1
    assert done.commands[-1] == f"{CANCEL[system]} 17"


@pytest.mark.parametrize("system", list(INDEX))
def test_whom_another_task_has_completed_is_left_alone(system, tmp_path):
    done = submit(system, tmp_path, "scratch", MISSING="")
    assert [line for line in done.calls if "[participant]" in line] == []
    assert done.log.count("is complete by now\nexit code 0\n") == 3


def test_whom_another_task_is_at_work_on_is_left_alone(tmp_path):
    logs = tmp_path / "out" / "logs"
    logs.mkdir(parents=True)
    with (logs / "lock-3").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = submit("slurm", tmp_path, "scratch")
        assert (logs / "lock-3").exists()
    worked = [line for line in done.calls if "[participant]" in line]
    assert ["[2]" in worked[0], "[10]" in worked[1], len(worked)] == [True, True, 2]
    assert "at work on participant 3" in done.log
    assert done.log.count("exit code 1\n") == 1


@pytest.mark.parametrize("system", list(INDEX))
@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ((), {}, "Usage"),
        (("--nprocs", "2"), {}, "options come last"),
        (("scratch", "--participant-label", "1"), {}, "PARTICIPANTS"),
        (("scratch", "-w", "here"), {}, "the work folder is the third argument, not -w"),
        (("scratch", "--work-dir=here"), {}, "the work folder is the third argument"),
        (("scratch", "--help"), {}, "--help is no option of a run"),
        (("scratch", "--out", "list.txt"), {}, "--out is no option of a run"),
        (("scratch",), {"bids": "nowhere/at/all"}, "nowhere/at/all"),
        (("scratch",), {"PLAN_CODE": "2"}, ""),
    ],
)
def test_nothing_is_submitted_in_wrong_use(system, options, settings, message, tmp_path):
    done = submit(system, tmp_path, *options, **settings)
    assert done.code == 2
    assert message in done.told
    assert done.commands == []
    assert not (tmp_path / "out").exists()
