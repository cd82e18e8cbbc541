"""No process of a run uses the network: neither connects, nor listens, nor asks for a name."""

import os
import subprocess
import sys
from pathlib import Path

from .models.toy_method import save_toy
from .tiny_heads import make_dataset

HOOK = """\
import os, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        # urllib3 binds to the machine itself when it is imported, to learn whether it knows IPv6.
        local = not isinstance(address, tuple) or (event, address) == ("socket.bind", ("::1", 0))
    else:
        local = event not in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
    if not local:
        with open(os.environ["OPENED"], "a") as log:
            log.write(f"{event} {arguments}\\n")
        raise PermissionError(f"no network here: {event} {arguments}")

sys.addaudithook(refuse)
with open(os.environ["WATCHED"], "a") as log:
    log.write(" ".join(sys.orig_argv)[:200].replace("\\n", " ") + "\\n")
"""
"""Is imported by every Python that starts; processes that are forked from one inherit the hook."""


def run_watched(folder: Path, *arguments: object) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run Python without network; return what it did, and what it tried to open."""
    (folder / "hook").mkdir(exist_ok=True)
    (folder / "hook" / "sitecustomize.py").write_text(HOOK)
    opened = folder / "opened"
    opened.write_text("")
    paths = [str(folder / "hook"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OPENED": str(opened),
        "WATCHED": str(folder / "watched"),
    }
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, opened.read_text()


def test_a_run_uses_no_network(tmp_path: Path) -> None:
    bids, out = make_dataset(tmp_path / "bids", "sub-01"), tmp_path / "out"
    options = "--method", save_toy(tmp_path / "toy"), "--nprocs", 2
    done, opened = run_watched(tmp_path, "-m", "cascade_bids", bids, out, "participant", *options)
    assert done.returncode == 0, done.stderr
    assert opened == ""
    watched = (tmp_path / "watched").read_text()
    assert "cascade_bids" in watched
    assert "multiprocessing.forkserver" in watched, "the steps were not watched"


def test_a_use_of_the_network_would_be_noticed(tmp_path: Path) -> None:
    for code in (
        "import socket; socket.socket().connect(('127.0.0.1', 9))",
        "import socket; socket.socket().bind(('', 0))",
        "import urllib.request; urllib.request.urlopen('http://localhost:9')",
    ):
        done, opened = run_watched(tmp_path, "-c", code)
        assert done.returncode == 1
        assert "no network here" in done.stderr
        assert opened
