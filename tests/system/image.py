"""The container image, built as a user would, also where no registry can be reached."""

import os
import subprocess
import sys
from pathlib import Path

from .machine import ROOT, Clock, call, cannot_run, require_packages

NAME = "localhost/cascade_bids:test"
OFFICIAL = "docker.io/library/python:3.11-slim-bookworm"
"""As in the Dockerfile."""

MADE = "localhost/cascade_bids-base:test"
"""What takes its place where there is no registry."""

CONTAINERS_CONF = """[containers]
default_ulimits=["nofile=1024:1024","nproc=4096:4096"]
netns="host"
[engine]
cgroup_manager="cgroupfs"
runtime="runc"
events_logger="file"
"""
"""For machines without systemd and without a bridge for networks, as CI has them."""


def build_image(folder: Path) -> tuple[str, int, float]:
    """Build the image; give its name, seconds and size in GB."""
    require_packages(
        "buildah", "podman", "runc", "conmon", commands=("buildah", "podman", "runc", "conmon")
    )
    base = _find_base(folder)
    _require_chroot(base)
    clock = Clock()
    call(
        *("buildah", "bud", "--pull-never", "--isolation", "chroot", "--layers"),
        *_pip_of_this_machine(folder),
        *("--build-arg", f"BASE={base}"),
        *("--build-arg", f"TORCH_INDEX={os.environ.get('TORCH_INDEX', '')}"),
        *("-t", NAME, "."),
        cwd=ROOT,
    )
    size = call("podman", "image", "inspect", "--format", "{{.Size}}", NAME)
    return NAME, clock.seconds, int(size.split()[-1]) / 1e9


def podman_environment(folder: Path, image: str) -> dict[str, str]:
    """Let podman run without systemd, or skip where it can't start the image."""
    path = folder / "containers.conf"
    path.write_text(CONTAINERS_CONF)
    environment = {**os.environ, "CONTAINERS_CONF": str(path)}
    probe = f"podman run --rm --network none --memory 1g --entrypoint true {image}".split()
    done = subprocess.run(probe, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        cannot_run(f"podman can't start a container here: {done.stderr.strip()[-300:]}")
    return environment


def _find_base(folder: Path) -> str:
    """Fetch the base image, or make one like it from Debian's packages."""
    for known in (OFFICIAL, MADE):
        if _works("buildah", "inspect", "--type", "image", known):
            return known
    if _works("buildah", "pull", "--quiet", OFFICIAL):
        return OFFICIAL
    require_packages("debootstrap", commands=("debootstrap",))
    root = folder / "rootfs"
    packages = "--include=ca-certificates,python3,python3-pip,python3-venv"
    if not _works("debootstrap", "--variant=minbase", packages, "bookworm", str(root)):
        cannot_run(f"neither a registry nor a Debian mirror gives {OFFICIAL}")
    for path in (root / "dev").iterdir():
        call("rm", "-rf", path)
    for name, target in {"python3": "python3", "python": "python3", "pip": "pip3"}.items():
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{target}")
    for path in (root / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
        path.unlink()
    container = call("buildah", "from", "scratch").strip()
    call("buildah", "add", "--quiet", container, root, "/")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    call("buildah", "config", "--cmd", "/bin/bash", "--env", path, container)
    call("buildah", "commit", "--quiet", container, MADE)
    call("buildah", "rm", container)
    return MADE


def _require_chroot(base: str) -> None:
    """Skip where buildah can't run a command in a container."""
    container = call("buildah", "from", "--pull-never", base).strip().splitlines()[-1]
    try:
        if not _works("buildah", "run", "--isolation", "chroot", container, "true"):
            cannot_run("buildah can't run anything here")
    finally:
        call("buildah", "rm", container)


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _pip_of_this_machine(folder: Path) -> list[str]:
    """Let pip inside the build find packages where pip outside does: mounts, read-only."""
    lines = call(sys.executable, "-m", "pip", "config", "list").splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    values = {name.split(".", 1)[1]: value.strip("'\"") for name, value in settings.items()}
    config = folder / "pip.conf"
    config.write_text("[global]\n" + "".join(f"{n} = {v}\n" for n, v in values.items()))
    words = {word.removeprefix("file://") for v in values.values() for word in v.split()}
    local = {Path(word) for word in words if word.startswith("/") and Path(word).exists()}
    # An index lies beside its packages.
    local = {path.parent if path.name == "simple" else path for path in local}
    mounts = {f"{path}:{path}:ro" for path in local} | {f"{config}:/etc/pip.conf:ro"}
    return [word for mount in sorted(mounts) for word in ("-v", mount)]
