"""Datasets of tiny heads, and runs on them with quick stand-ins for networks and registration.

Everything else is real: the command line, the dataset, Nipype, the resampling from grid to grid,
the measuring, the files and the reports.
"""

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from nipype.pipeline.plugins import LinearPlugin

from cascade_bids.change import common_space
from cascade_bids.cli.main import main
from cascade_bids.models import brain_extraction, predict
from cascade_bids.models.network import LesionMaps
from cascade_bids.preprocess import bias, registration, template
from cascade_bids.workflows import execution

SHAPE = (24, 28, 20)
AFFINE = nib.affines.from_matvec(np.diag([8.0, 8.0, 8.0]), [-92, -126, -71])
NETWORK_GRID = (50, 60, 48), nib.affines.from_matvec(np.diag([4.0, 4.0, 4.0]), [-98, -134, -72])
COMMON_MM = 4.0
T1W_FROM_FLAIR = nib.affines.from_matvec(np.eye(3), [10, 0, -6])
"""The patient moved between the images."""
LESION = (slice(14, 17), slice(16, 20), slice(10, 13))
LESION_ML = 3 * 4 * 3 * 0.512


def make_head(contrast: str, seed: int) -> nib.Nifti1Image:
    """Draw a scalp, a brain of 1.4 l and, on FLAIR, a bright lesion in front and to the right."""
    place = nib.affines.apply_affine(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1))
    radius = np.linalg.norm((place - [0, -18, 5]) / [68, 84, 60], axis=-1)
    data = np.select([radius < 1, radius < 1.15], [300.0, 80.0], 0.0)
    if contrast == "FLAIR":
        data[LESION] = 600
    data += np.random.default_rng(seed).normal(0, 10, SHAPE)
    affine = AFFINE if contrast == "FLAIR" else T1W_FROM_FLAIR @ AFFINE
    return nib.Nifti1Image(np.rint(data).astype(np.int16), affine)


def make_dataset(root: Path, *labels: str) -> Path:
    """Write a dataset with a FLAIR and a T1w for each label, such as ``sub-01_ses-1_run-2``."""
    root.mkdir()
    about = {"Name": "tiny heads", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(about))
    for seed, label in enumerate(labels):
        for contrast in ("FLAIR", "T1w"):
            path = image_path(root, label, contrast)
            path.parent.mkdir(parents=True, exist_ok=True)
            make_head(contrast, seed).to_filename(path)
    return root


def image_path(root: Path, label: str, contrast: str) -> Path:
    folders = [part for part in label.split("_") if part[:4] in ("sub-", "ses-")]
    return root.joinpath(*folders, "anat", f"{label}_{contrast}.nii.gz")


@contextlib.contextmanager
def stand_ins(world: np.ndarray | None = None) -> Iterator[Counter[str]]:
    """Replace what is slow; count the calls. `world` is how the heads lie against the template."""
    calls: Counter[str] = Counter()
    pose = np.eye(4) if world is None else world
    motion = pose @ T1W_FROM_FLAIR @ np.linalg.inv(pose)

    def counted(name: str, function: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    def find_bright(
        stages: object,
        card: object,
        images: dict,
        inside: np.ndarray,
        *,
        affine: object,
        anatomy: object,
        mirrored: bool,
        precision: str,
    ) -> LesionMaps:
        found = np.where(inside & (images["FLAIR"] > 10), 0.9, 0).astype(np.float32)
        return LesionMaps(found, None)

    def extract(image: nib.Nifti1Image, card: object, device: object) -> nib.Nifti1Image:
        bright = (np.asarray(image.dataobj) > 150).astype(np.float32)
        return brain_extraction.brain_mask(nib.Nifti1Image(bright, image.affine))

    quick: dict[tuple[object, str], Callable] = {
        (bias, "correct_bias"): lambda image: image,
        (registration, "register_rigid"): lambda *_, **__: motion,
        (registration, "align_to_template"): lambda *_, **__: pose,
        (template, "network_grid"): lambda: NETWORK_GRID,
        (brain_extraction, "extract_brain"): extract,
        (brain_extraction, "shows_brain_alone"): lambda *_: False,
        (predict, "predict_lesions"): find_bright,
    }
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), function in quick.items():
            patch.setattr(module, name, counted(name, function))
        patch.setattr(common_space, "VOXEL_MM", COMMON_MM)
        yield calls


class Run(NamedTuple):
    code: int
    text: str
    out: Path


@contextlib.contextmanager
def steps_here() -> Iterator[None]:
    """Run steps in this process, where stand-ins are, unless there are several cores."""
    workers = execution.WorkersPlugin

    def choose(plugin_args: dict) -> object:
        return (workers if plugin_args["n_procs"] > 1 else LinearPlugin)(plugin_args=plugin_args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "WorkersPlugin", choose)
        yield


METHOD = ("--method", "valverde2017")
"""Needs FLAIR and T1w, so that a scan can lack something; the networks are stand-ins anyway."""


def run(bids: Path, out: Path, *options: object, level: str = "participant") -> Run:
    if level == "group":
        return call(out, bids, out, level, *options)
    return call(out, bids, out, level, "--nprocs", 1, *METHOD, *options)


def call(out: Path, *arguments: object) -> Run:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's own way out
            code = int(end.code or 0)
    return Run(code, printed.getvalue(), out)


def contents(folder: Path) -> dict[str, str]:
    """Give a hash of each file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def stats(out: Path, label: str) -> dict | None:
    path = image_path(out, label, "x").with_name(f"{label}_desc-lesions_stats.json")
    return json.loads(path.read_text()) if path.exists() else None


def truncate(path: Path) -> None:
    """Cut a file in the middle, as a broken transfer does."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def assert_tidy(out: Path) -> None:
    """Nothing half-written is left behind."""
    names = {path.name for path in out.rglob("*")}
    assert {n for n in names if n.startswith(".") or "part" in n or "tmp" in n} == {".bidsignore"}


def validator_errors(dataset: Path) -> list[dict]:
    """Ask the official BIDS validator what is wrong with a dataset."""
    validator = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run(
        [validator, str(dataset), "--format", "json"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"NO_COLOR": "1"},
        check=False,
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue["severity"] == "error"]
