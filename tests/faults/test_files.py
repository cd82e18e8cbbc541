"""Files that are not what their name says, links, and folders that can't be read or written."""

import bz2
import contextlib
import errno
import gzip
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nibabel as nib
import pytest

from ..tiny_heads import Run, truncate
from .heads import Case
from .rows import Named, Refused, Right, Row, check_tiny, parametrize

AGAIN = "copy|convert"

as_other = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")


def broken(*words: str) -> Named:
    return Named(("sub-01_FLAIR", *words))


def write(content: bytes) -> Callable[[Case], object]:
    return lambda case: case.flair.write_bytes(content)


def rewrite(function: Callable[[bytes], bytes]) -> Callable[[Case], object]:
    return lambda case: case.flair.write_bytes(function(case.flair.read_bytes()))


def plain(case: Case) -> Path:
    """Store the FLAIR without compression, and return its path."""
    path = case.flair.with_suffix("")
    path.write_bytes(gzip.decompress(case.flair.read_bytes()))
    case.flair.unlink()
    return path


def spoil_checksum(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 0xFF]) + content[-7:]


def spoil_stream(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]


def in_two_streams(content: bytes) -> bytes:
    """Compress both halves on their own, as parallel compressors do."""
    whole = gzip.decompress(content)
    half = len(whole) // 2
    return gzip.compress(whole[:half]) + gzip.compress(whole[half:])


def store_mgh(case: Case) -> None:
    data, affine = case.load()
    path = case.folder / "head.mgz"
    nib.MGHImage(data, affine).to_filename(path)
    path.replace(case.flair)


def make_folder(case: Case) -> None:
    case.flair.unlink()
    case.flair.mkdir()


def link(case: Case, target: str) -> None:
    case.flair.unlink()
    case.flair.symlink_to(target)


def link_to_store(case: Case) -> None:
    """Keep the image elsewhere, as git-annex does."""
    store = case.folder / "annex" / "objects" / "MD5E-s1--1.nii.gz"
    store.parent.mkdir(parents=True)
    case.flair.rename(store)
    case.flair.symlink_to(os.path.relpath(store, case.anat))


def link_dataset(case: Case) -> None:
    real = case.bids.rename(case.folder / "real")
    case.bids.symlink_to(real)


def link_folder(case: Case) -> None:
    """Keep the folder of a participant elsewhere."""
    here = case.anat.parent
    here.symlink_to(here.rename(case.folder / "elsewhere"))


def make_pipe(case: Case) -> None:
    case.flair.unlink()
    os.mkfifo(case.flair)


def make_socket(case: Case) -> None:
    case.flair.unlink()
    with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(case.anat):
        one.bind(case.flair.name)


def forbid(case: Case) -> None:
    case.flair.chmod(0)


@contextlib.contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    """Take the right to write from folders and all in them."""
    paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    before = [(path, path.stat().st_mode) for path in paths]
    for path, mode in before:
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in before:
            path.chmod(mode)


@contextlib.contextmanager
def no_room(case: Case, free: int) -> Iterator[None]:
    """Let the disk of the output be full after some files were copied to it."""
    copy, copied = shutil.copyfile, []

    def copy_or_fail(source: Path, target: Path, **options: object) -> object:
        if Path(target).is_relative_to(case.out):
            copied.append(target)
            if len(copied) > free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return copy(source, target, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "copyfile", copy_or_fail)
        yield


def process(case: Case, options: tuple[object, ...], count: int = 1, **environment: str) -> Run:
    """Run the program in processes of their own at once; return the worst of their ends."""
    command = [sys.executable, "-P", "-m", "tests.faults.one_process"]
    arguments = [case.bids, case.out, "participant", "--nprocs", 1, *options]
    keep = {k: v for k, v in os.environ.items() if k not in ("MPLCONFIGDIR", "XDG_CACHE_HOME")}
    root = Path(__file__).resolve().parents[2]
    started = [
        subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=root,
            env={**keep, "PYTHONPATH": str(root), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(count)
    ]
    texts = [one.communicate(timeout=600)[0] for one in started]
    return Run(max(one.returncode for one in started), "\n".join(texts), case.out)


def both_are_told(case: Case, done: Run) -> None:
    assert done.text.count("complete") >= 2


POINTERS = {
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "git-annex": b"/annex/objects/MD5E-s12345--abc.nii.gz\n",
    "git-annex without links": b"../../.git/annex/objects/xx/MD5E-s1--a.nii.gz",
}

ROWS = [
    Row("truncated gzip", lambda case: truncate(case.flair), broken(AGAIN), full=True),
    Row("gzip cut before its checksum", rewrite(lambda raw: raw[:-6]), broken(AGAIN)),
    Row("wrong checksum", rewrite(spoil_checksum), broken(AGAIN)),
    Row("a hole in the stream", rewrite(spoil_stream), broken(AGAIN)),
    Row("garbage behind the stream", rewrite(lambda raw: raw + b"\1garbage"), broken(AGAIN)),
    Row("zeros behind the stream", rewrite(lambda raw: raw + bytes(512)), Right()),
    Row("compressed in two streams", rewrite(in_two_streams), Right()),
    Row("compressed twice", rewrite(gzip.compress), broken(AGAIN)),
    Row("compressed by bzip2", rewrite(lambda raw: bz2.compress(gzip.decompress(raw))),
        broken(AGAIN)),
    Row("empty file", write(b""), broken(AGAIN)),
    Row("empty stream", write(gzip.compress(b"")), broken(AGAIN)),
    Row("text", write(b"<!DOCTYPE html><title>403 Forbidden</title>"), broken(AGAIN)),
    *(
        Row(f"pointer of {name}", write(content), broken("is a pointer", "fetch it"))
        for name, content in POINTERS.items()
    ),
    Row("compressed text", write(gzip.compress(b"not an image\n" * 99)), broken(AGAIN)),
    Row("zeros", write(gzip.compress(bytes(20_000))), broken(AGAIN)),
    Row("DICOM", write(gzip.compress(bytes(128) + b"DICM" + bytes(999))), broken(AGAIN)),
    Row("MGH", store_mgh, broken(AGAIN)),
    Row("header alone", rewrite(lambda raw: gzip.compress(gzip.decompress(raw)[:352])),
        broken(AGAIN)),
    Row("not compressed", lambda case: plain(case), Right(), full=True),
    Row(
        "truncated without compression",
        lambda case: truncate(plain(case)),
        broken(AGAIN),
    ),
    Row(
        "gzip named .nii",
        lambda case: case.flair.rename(case.flair.with_suffix("")),
        broken("rename"),
    ),
    Row(
        "plain file named .nii.gz",
        lambda case: plain(case).rename(case.flair),
        broken("rename"),
    ),
    Row("a folder named like an image", make_folder, broken("folder")),
    Row("a pipe named like an image", make_pipe, broken("pipe", "image file")),
    Row("a socket named like an image", make_socket, broken("socket", "image file")),
    Row("a link to a file", link_to_store, Right(), full=True),
    Row("a link to nothing", partial(link, target="../.git/annex/nothing"), broken("fetch")),
    Row("a link to itself", partial(link, target="sub-01_FLAIR.nii.gz"), broken("link|fetch")),
    Row("a link to a folder", partial(link, target=".."), broken("folder")),
    Row("a link to the dataset", link_dataset, Right()),
    Row("a link to a participant", link_folder, Right()),
    Row(
        "input that can't be written",
        lambda case: None,
        Right(),
        during=lambda case: read_only(case.bids),
    ),
    Row(
        "home that can't be written",
        lambda case: None,
        Right(),
        run=partial(process, HOME="/proc/nowhere"),
    ),
    Row(
        "full disk at the first file",
        lambda case: None,
        Refused(1, ("No space left", "make room")),
        during=partial(no_room, free=0),
    ),
    Row(
        "full disk at the last file",
        lambda case: None,
        Refused(1, ("No space left", "make room")),
        during=partial(no_room, free=8),
    ),
    Row(
        "two runs into one output at once",
        lambda case: None,
        Right(),
        run=partial(process, count=2),
        also=both_are_told,
    ),
]  # fmt: skip

FORBIDDEN = [
    Row("a file that may not be read", forbid, broken("may not be read")),
    Row(
        "output that can't be written",
        lambda case: case.out.mkdir(),
        Refused(2, ("out", "writ")),
        during=lambda case: read_only(case.out),
    ),
]


@parametrize(ROWS)
def test_odd_file(row: Row, tmp_path: Path) -> None:
    check_tiny(row, tmp_path)


@as_other
@parametrize(FORBIDDEN)
def test_what_is_forbidden(row: Row, tmp_path: Path) -> None:
    check_tiny(row, tmp_path)
