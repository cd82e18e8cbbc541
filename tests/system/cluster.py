"""A SLURM of one node on the loopback, which ends with the test."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade_bids.machine import usable_cores, usable_memory

from .machine import call, cannot_run, require_memory, require_packages

SLURM_CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmdPort={next_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
MinJobAge=86400
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={megabytes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def start_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; give the environment in which its commands find it."""
    require_memory(8)
    slurm = dict.fromkeys(("sbatch", "slurmctld", "slurmd"), "slurm-wlm")
    require_packages({**slurm, "munged": "munge"})
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    port = _free_port()
    config = folder / "slurm.conf"
    config.write_text(
        SLURM_CONF.format(
            folder=folder,
            host=socket.gethostname().split(".")[0],
            port=port,
            next_port=port + 1,
            cores=usable_cores(),
            megabytes=int(0.9 * usable_memory() / 2**20),
        )
    )
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(config), "LOGNAME": "root"}
    paths = {name: folder / f"munge.{name}" for name in ("socket", "pid-file", "log-file")}
    munge = [f"--{name}={path}" for name, path in paths.items()] + [f"--seed-file={folder}/seed"]
    daemons = (
        ["munged", "--foreground", "--force", f"--key-file={key}", *munge],
        ["slurmctld", "-D", "-f", config],
        ["slurmd", "-D", "-f", config],
    )
    started: list[subprocess.Popen[bytes]] = []
    try:
        for words in daemons:
            program = shutil.which(str(words[0])) or f"/usr/sbin/{words[0]}"
            command = [program, *map(str, words[1:])]
            with (folder / f"{words[0]}.out").open("wb") as log:
                started.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
                )
            time.sleep(1)
        _await_node(environment, folder)
        yield environment
    finally:
        # What runs would go on without its daemon.
        subprocess.run(["scancel", "--user", "root"], env=environment, check=False)
        time.sleep(2)
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def wait_for(environment: dict[str, str], *jobs: str, seconds: int = 1200) -> None:
    """Wait until jobs have left the queue."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not call("squeue", "--noheader", "--jobs", ",".join(jobs), env=environment).strip():
            return
        time.sleep(1)
    pytest.fail(call("squeue", "--long", env=environment))


def job_states(environment: dict[str, str], job: str) -> dict[str, tuple[str, str]]:
    """Give state and exit code of a job, or of each task of an array."""
    text = call("scontrol", "--oneliner", "show", "job", job, env=environment)
    states = {}
    for line in text.strip().splitlines():
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        states[facts.get("ArrayTaskId", "")] = (facts["JobState"], facts["ExitCode"].split(":")[0])
    return states


def _await_node(environment: dict[str, str], folder: Path) -> None:
    for _ in range(30):
        done = subprocess.run(
            ["sinfo", "--noheader", "-o", "%T"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout.strip() == "idle":
            return
        time.sleep(1)
    logs = "".join(path.read_text()[-600:] for path in folder.glob("*.log"))
    cannot_run(f"SLURM does not start here: {done.stdout} {done.stderr}\n{logs}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
