"""The container image, built as a user would, also where no registry can be reached."""

import ast
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .machine import ROOT, Clock, attempt, call, prepare, require_packages

NAME = "localhost/cascade_bids:test"
OFFICIAL = re.search(r"^FROM (\S+) AS base$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
"""What the image is made from."""

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


RUN = (
    *("podman", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp"),
    *("--user", "12345:12345", "--memory", "6g"),
)
"""As a user whom neither the machine nor the image knows."""


@dataclass(frozen=True)
class Image:
    """What was built, and what it took."""

    name: str
    seconds: int
    gigabytes: float


@contextlib.contextmanager
def built_image(folder: Path) -> Iterator[Image]:
    """Build the image, and remove it afterwards."""
    require_packages({tool: tool for tool in ("buildah", "podman", "runc", "conmon")})
    base, is_made = _find_base(folder)
    try:
        _require_chroot(base)
        clock = Clock()
        call(
            *("buildah", "bud", "--pull-never", "--isolation", "chroot"),
            *_pip_of_this_machine(folder),
            *(("--from", base) if is_made else ()),
            *("--build-arg", f"TORCH_INDEX={os.environ.get('TORCH_INDEX', '')}"),
            *("-t", NAME, "."),
            cwd=ROOT,
        )
        seconds = clock.seconds
        size = call("podman", "image", "inspect", "--format", "{{.Size}}", NAME)
        yield Image(NAME, seconds, int(size.split()[-1]) / 1e9)
    finally:
        for name in (NAME, *([base] if is_made else [])):
            attempt("buildah", "rmi", "--force", name)


def podman_environment(folder: Path, image: str) -> dict[str, str]:
    """Let podman run without systemd, or skip where it can't start the image."""
    path = folder / "containers.conf"
    path.write_text(CONTAINERS_CONF)
    environment = {**os.environ, "CONTAINERS_CONF": str(path)}
    prepare(*RUN, "-v", f"{folder}:/out", "--entrypoint", "true", image, env=environment)
    return environment


def _find_base(folder: Path) -> tuple[str, bool]:
    """Fetch the base image, or make one like it from Debian's packages; say whether it was made."""
    # A machine may have the tools and lack the rights.
    container = prepare("buildah", "from", "scratch").strip()
    try:
        if not attempt("buildah", "inspect", "--type", "image", OFFICIAL)[1]:
            return OFFICIAL, False
        if not attempt("buildah", "pull", "--quiet", OFFICIAL)[1]:
            return OFFICIAL, False
        _make_base(folder, container)
        return MADE, True
    finally:
        attempt("buildah", "rm", container)


def _make_base(folder: Path, container: str) -> None:
    require_packages({"debootstrap": "debootstrap"})
    root = folder / "rootfs"
    packages = "--include=ca-certificates,python3,python3-pip,python3-venv"
    prepare("debootstrap", "--variant=minbase", packages, "bookworm", root)
    for path in (root / "dev").iterdir():
        prepare("rm", "-rf", path)
    for name, target in {"python3": "python3", "python": "python3", "pip": "pip3"}.items():
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{target}")
    for path in (root / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
        path.unlink()
    prepare("buildah", "add", "--quiet", container, root, "/")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    prepare("buildah", "config", "--cmd", "/bin/bash", "--env", path, container)
    prepare("buildah", "commit", "--quiet", container, MADE)


def _require_chroot(base: str) -> None:
    """Skip where buildah can't run a command in a container."""
    container = prepare("buildah", "from", "--pull-never", base).strip()
    try:
        prepare("buildah", "run", "--isolation", "chroot", container, "true")
    finally:
        attempt("buildah", "rm", container)


def _pip_of_this_machine(folder: Path) -> list[str]:
    """Let pip inside the build find packages where pip outside does: mounts, read-only."""
    values = {}
    for line in call(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        values[name.split(".")[-1]] = str(ast.literal_eval(value)).split()
    config = folder / "pip.conf"
    lines = [f"{name} = " + "\n    ".join(value) for name, value in values.items()]
    config.write_text("\n".join(["[global]", *lines, ""]))
    words = {word.removeprefix("file://") for value in values.values() for word in value}
    local = {Path(word) for word in words if word.startswith("/") and Path(word).exists()}
    # An index lies beside its packages.
    local = {path.parent if path.name == "simple" else path for path in local}
    mounts = {f"{path}:{path}:ro" for path in local} | {f"{config}:/etc/pip.conf:ro"}
    return [word for mount in sorted(mounts) for word in ("-v", mount)]
