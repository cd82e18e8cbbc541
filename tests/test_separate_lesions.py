"""The option --separate-lesions, from the command line to the table of lesions."""

import json
import shutil
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from cascade_bids.config import CONTRASTS
from cascade_bids.interfaces import models
from cascade_bids.models.card import WEIGHTS_DIR

from .tiny_heads import METHOD, call, contents, image_path, make_dataset, make_head, run, stats


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A method with a sphere head: one without, with a card that says so."""
    folder = shutil.copytree(WEIGHTS_DIR, tmp_path / "methods")
    path = folder / "valverde2017.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sphere_head": True}))
    return path


@pytest.fixture
def with_spheres(quick: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stand-in for the networks also see a sphere at each end of what it finds."""
    find = models.FindLesions._run_interface

    def find_with_spheres(self: models.FindLesions, runtime: object) -> object:
        runtime = find(self, runtime)
        found = nib.load(self._results["out_file"])
        inside = np.argwhere(np.asarray(found.dataobj) > 0.5)
        place = nib.affines.apply_affine(found.affine, np.moveaxis(np.indices(found.shape), 0, -1))
        ends = nib.affines.apply_affine(found.affine, [inside.min(axis=0), inside.max(axis=0)])
        near = [np.linalg.norm(place - end, axis=-1) < 8 for end in ends]
        path = Path(runtime.cwd) / "spheres.nii.gz"
        nib.Nifti1Image(np.any(near, axis=0).astype(np.float32), found.affine).to_filename(path)
        self._results["spheres"] = str(path)
        return runtime

    monkeypatch.setattr(models.FindLesions, "_run_interface", find_with_spheres)


def table(out: Path, label: str) -> pd.DataFrame:
    name = f"{label}_space-FLAIR_desc-lesions_dseg.tsv"
    return pd.read_csv(image_path(out, label, "x").with_name(name), sep="\t")


def voxels(out: Path, label: str, name: str) -> np.ndarray:
    path = image_path(out, label, "x").with_name(f"{label}_{name}.nii.gz")
    return np.asarray(nib.load(path).dataobj)


def test_with_the_option_the_table_has_two_rows_and_the_mask_is_the_same(
    with_spheres: None, card: Path, tmp_path: Path
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    spaces = "--output-spaces", "T1w", "MNI152NLin2009aSym"
    whole = run(bids, tmp_path / "whole", "--method", card, *spaces)
    split = run(bids, tmp_path / "split", "--method", card, *spaces, "--separate-lesions")
    assert (whole.code, split.code) == (0, 0)
    assert [len(table(done.out, "sub-01")) for done in (whole, split)] == [1, 2]
    told = [stats(done.out, "sub-01") for done in (whole, split)]
    assert [(t["count"], t["separate_lesions"]) for t in told if t] == [(1, False), (2, True)]
    dseg = "space-FLAIR_desc-lesions_dseg"
    assert [voxels(done.out, "sub-01", dseg).max() for done in (whole, split)] == [1, 2]
    for space in ("FLAIR", "T1w", "MNI152NLin2009aSym"):
        masks = [
            voxels(done.out, "sub-01", f"space-{space}_label-lesion_mask")
            for done in (whole, split)
        ]
        assert masks[0].any()
        np.testing.assert_array_equal(*masks)
    np.testing.assert_array_equal(
        voxels(split.out, "sub-01", dseg) > 0,
        voxels(split.out, "sub-01", "space-FLAIR_label-lesion_mask") > 0,
    )
    assert "numbered one by one" in (split.out / "sub-01.html").read_text()
    assert "numbered one by one" not in (whole.out / "sub-01.html").read_text()
    assert "sphere map" in (split.out / "logs" / "CITATION.md").read_text()


def test_segment_separates_lesions_too(with_spheres: None, card: Path, tmp_path: Path) -> None:
    for contrast in ("FLAIR", "T1w"):
        make_head(contrast, 0).to_filename(tmp_path / f"{contrast}.nii.gz")
    out = tmp_path / "out"
    images = ("--flair", tmp_path / "FLAIR.nii.gz", "--t1w", tmp_path / "T1w.nii.gz")
    options = ("--method", card, "--separate-lesions", "--nprocs", 1)
    assert call(out, "segment", *images, "--out", out, *options).code == 0
    assert json.loads((out / "FLAIR_desc-lesions_stats.json").read_text())["count"] == 2


@pytest.mark.parametrize("command", ["participant", "segment"])
def test_a_method_without_a_sphere_head_is_refused_before_anything_starts(
    quick: Counter[str], tmp_path: Path, command: str
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    before = contents(tmp_path)
    out = tmp_path / "out"
    if command == "participant":
        done = run(bids, out, "--separate-lesions")
    else:
        images = {c: image_path(bids, "sub-01", c) for c in CONTRASTS[:2]}
        flags = [part for c, path in images.items() for part in (f"--{c.lower()}", path)]
        done = call(out, "segment", *flags, "--out", out, "--separate-lesions", *METHOD)
    assert done.code == 2
    assert "--separate-lesions" in done.text
    assert "sphere head" in done.text
    assert "valverde2017" in done.text
    assert contents(tmp_path) == before
    assert quick.total() == 0
