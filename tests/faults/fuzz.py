"""Random damage to headers, streams and trees, each case made from its number alone."""

import gzip
import json
import math
import os
import shutil
import struct
from pathlib import Path

import nibabel as nib
import numpy as np

from ..models.toy_method import save_toy
from .heads import Case, make_tiny, quick
from .rows import NEVER, run_participants

ENDS = (0, 1, 2, 70)
"""Exit codes that a run may have, see docs/options.md."""

ODD_NUMBERS = (0.0, -1.0, 1e-30, 1e30, 3.4e38, math.nan, math.inf, -math.inf, 7.0, 0.5)
ODD_DIMS = (0, -1, 1, 2, 7, 8, 512, 30_000, 32_767, -32_768)

NAMES = (
    "sub-01", "sub-02", "sub-é", "sub-", "sub-01_x", "sub-<i>", "ses-1", "ses-", "anat", "func",
    "derivatives", "sourcedata", ".git", "a b", "..x", "é",
)  # fmt: skip
PARTS = (
    "sub-01", "sub-02", "ses-1", "ses-2", "run-1", "run-x", "acq-3d", "acq-gd", "ce-gd",
    "part-phase", "echo-1", "inv-1", "chunk-1", "space-T1w", "desc-brain", "rec-a.b", "x", "",
    "acq-<b>",
)  # fmt: skip
SUFFIXES = ("FLAIR", "T1w", "T2w", "flair", "bold", "mask", "")
ENDINGS = (".nii.gz", ".nii", ".NII.GZ", ".json", ".img", ".nii.gz.bak", "")


def check_header(number: int, folder: Path) -> None:
    """Damage the file of sub-01's FLAIR at random, and check how the run ends."""
    random = np.random.default_rng([1, number])
    case = make_tiny(folder / "row", ("sub-01",), ("FLAIR",))
    damage_file(case.flair, random)
    _check(case, folder, f"header {number}")


def check_tree(number: int, folder: Path) -> None:
    """Add, move and remove files and folders at random, and check how the run ends."""
    random = np.random.default_rng([2, number])
    case = make_tiny(folder / "row", ("sub-01",), ("FLAIR",))
    for _ in range(random.integers(1, 8)):
        _damage_tree(case, random)
    options: tuple[object, ...] = ("--skip-bids-validation",) if random.random() < 0.5 else ()
    _check(case, folder, f"tree {number}", *options)


def damage_file(path: Path, random: np.random.Generator) -> None:
    """Change fields or bytes of the header of an image, or its stream."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    kind = nib.nifti1.header_dtype
    for _ in range(random.integers(1, 4)):
        way = random.integers(4)
        if way == 0:  # any bytes of the header
            for place in random.integers(0, 352, random.integers(1, 6)):
                raw[place] = random.integers(256)
        elif way == 3:  # a bit of a voxel or of the header
            place = random.integers(len(raw))
            raw[place] ^= 1 << random.integers(8)
        else:  # a field, whole
            name = str(random.choice(kind.names))
            field, offset = kind.fields[name][:2]
            base, shape = field.subdtype or (field, ())
            start = offset + base.itemsize * int(random.integers(math.prod(shape)))
            raw[start : start + base.itemsize] = _odd_value(base, random)
    compressed = bytearray(gzip.compress(bytes(raw), 1, mtime=0))
    if random.random() < 0.1:
        compressed = compressed[: random.integers(len(compressed))]
    if random.random() < 0.1:
        compressed[random.integers(len(compressed))] ^= 0xFF
    path.write_bytes(bytes(compressed))


def _odd_value(kind: np.dtype, random: np.random.Generator) -> bytes:
    if kind.kind == "f":
        return np.array(random.choice(ODD_NUMBERS), kind).tobytes()
    if kind == np.int16:
        return struct.pack("<h", int(random.choice(ODD_DIMS)))
    return random.bytes(kind.itemsize)


def _damage_tree(case: Case, random: np.random.Generator) -> None:
    """Do one of what people and programs do to trees."""
    files = sorted(path for path in case.bids.rglob("*") if path.is_file())
    one = files[random.integers(len(files))] if files else case.bids / "x"
    place = _any_place(case.bids, random)
    place.parent.mkdir(parents=True, exist_ok=True)
    free = not os.path.lexists(place)
    way = random.integers(8)
    if way == 0 and free:
        place.mkdir()
    elif way == 1 and free:
        place.symlink_to(os.path.relpath(one, place.parent))
    elif way == 2 and free:
        place.symlink_to("../nowhere")
    elif way == 3 and free:
        place.write_bytes(random.bytes(int(random.integers(60))))
    elif way == 4 and one.is_file() and free:
        one.rename(place)
    elif way == 5 and one.name != "dataset_description.json":
        one.unlink(missing_ok=True)
    elif way == 6:
        table = random.choice(["participants.tsv", ".bidsignore", "participants.json"])
        (case.bids / str(table)).write_bytes(random.bytes(int(random.integers(60))))
    elif one.is_file() and free:
        shutil.copyfile(one, place)


def _any_place(root: Path, random: np.random.Generator) -> Path:
    """Make up a path, often one that could be that of an image."""
    folders = [str(name) for name in random.choice(NAMES, random.integers(3))]
    if random.random() < 0.6:
        folders = ["sub-01", *(["ses-1"] if random.random() < 0.3 else []), "anat"]
    parts = [str(part) for part in random.choice(PARTS, random.integers(3))]
    if random.random() < 0.7:
        parts.insert(0, "sub-01")
    name = "_".join([*parts, str(random.choice(SUFFIXES))]) + str(random.choice(ENDINGS))
    place = root.joinpath(*folders, name or "x")
    # A folder cannot be made below a file, or below a link to nowhere.
    lower = [one for one in place.parents if one.is_relative_to(root)]
    if all(one.is_dir() or not os.path.lexists(one) for one in lower):
        return place
    return root / (name or "x")


def _check(case: Case, folder: Path, name: str, *options: object) -> None:
    with quick():
        done = run_participants(case, ("--method", save_toy(folder / "toy"), *options))
    assert done.code in ENDS, f"{name}: {done.text}"
    assert not NEVER.search(done.text), f"{name}: {done.text}"
    for path in case.out.rglob("*_stats.json"):
        found = json.loads(path.read_text())
        assert math.isfinite(found["load_ml"]), f"{name}: {path.name}"
