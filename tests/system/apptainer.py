"""Apptainer: that of the machine, or of Debian sid in a root of its own."""

import shutil
from collections.abc import Callable
from pathlib import Path

from .machine import call, prepare, require_packages

PACKAGES = "apptainer,squashfs-tools,uidmap,fuse2fs,squashfuse,fuse3,e2fsprogs,ca-certificates"
"""Debian has Apptainer in sid alone."""

ENTER = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
for name in dev proc sys; do mount --rbind /$name $name; done
mkdir -p old ".$2"
touch etc/hosts etc/resolv.conf
mount --bind "$2" ".$2"
pivot_root . old
umount -l /old
cd "$2"
shift 2
exec "$@"
"""
"""Sees the folder $2 under its own name in the root $1; a chroot would not do, since Apptainer
makes namespaces of its own there."""

Apptainer = Callable[..., str]
"""Runs its command with the arguments; gives what it printed."""


def find_apptainer(folder: Path, shared: Path) -> Apptainer:
    """Take the machine's, or make a root with one in `folder`; it sees the folder `shared`."""
    if shutil.which("apptainer"):
        return lambda *arguments, **options: call("apptainer", *arguments, cwd=shared, **options)
    require_packages({"debootstrap": "debootstrap", "unshare": "util-linux"})
    root = folder / "sid"
    prepare("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "sid", root)
    enter = ("unshare", "--mount", "--", "bash", "-c", ENTER, "enter", root, shared)
    return lambda *arguments, **options: call(*enter, "apptainer", *arguments, **options)
