"""Batches of scans: failures that stay alone."""

import gzip
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.app import participant
from cascade_bids.models import card

from ..tiny_heads import (
    LESION_ML,
    Run,
    assert_tidy,
    contents,
    image_path,
    make_dataset,
    run,
    stand_ins,
    stats,
    truncate,
)


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    data = change(np.asarray(image.dataobj))
    nib.Nifti1Image(data.astype(np.int16), image.affine).to_filename(path)


def unfetch(path: Path) -> None:
    path.unlink()
    path.symlink_to("../.git/annex/objects/not-here")


def spoil_header(path: Path) -> None:
    image = nib.load(path)
    image.header["datatype"] = 9999
    raw = image.header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes()
    path.write_bytes(raw)
    path.rename(path.with_suffix(""))


def name_as_not_packed(path: Path) -> None:
    path.rename(path.with_suffix(""))


def claim_too_much(path: Path) -> None:
    content = gzip.decompress(path.read_bytes())
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(content), check=False)
    header["dim"][1:4] = 30_000
    path.write_bytes(gzip.compress(header.binaryblock + content[348:]))


class Damage(NamedTuple):
    contrast: str
    do: Callable[[Path], None]
    step: str | None
    file: str
    cause: str


DAMAGES = {
    "sub-02": Damage("FLAIR", truncate, "conform FLAIR", "sub-02_FLAIR.nii.gz", "end-of-stream"),
    "sub-03": Damage(
        "FLAIR",
        partial(rewrite, change=lambda data: data[:, :, 9]),
        "conform FLAIR",
        "sub-03_FLAIR.nii.gz",
        "(24, 28)",
    ),
    "sub-04": Damage(
        "FLAIR",
        partial(rewrite, change=lambda data: np.stack([data, data], -1)),
        "conform FLAIR",
        "sub-04_FLAIR.nii.gz",
        "(24, 28, 20, 2)",
    ),
    "sub-05": Damage("FLAIR", Path.unlink, None, "sub-05/anat", "No FLAIR image"),
    "sub-06": Damage("T1w", Path.unlink, None, "", "no T1w image"),
    "sub-07": Damage(
        "FLAIR",
        partial(rewrite, change=lambda data: data * 0 + 7),
        "conform FLAIR",
        "sub-07_FLAIR.nii.gz",
        "constant",
    ),
    "sub-08": Damage("T1w", unfetch, None, "sub-08_T1w.nii.gz", "link"),
    "sub-09": Damage("FLAIR", spoil_header, "conform FLAIR", "sub-09_FLAIR.nii", "9999"),
    "sub-10": Damage("T1w", truncate, "conform T1w", "sub-10_T1w.nii.gz", "end-of-stream"),
    "sub-11": Damage(
        "T1w",
        partial(rewrite, change=lambda data: data // 3),
        "extract brain T1w",
        "sub-11_T1w.nii.gz",
        "brain extraction",
    ),
    "sub-14": Damage(
        "FLAIR", claim_too_much, "conform FLAIR", "sub-14_FLAIR.nii.gz", "claims 30000 × 30000"
    ),
    "sub-15": Damage("T1w", name_as_not_packed, None, "sub-15_T1w.nii", "rename it to"),
}
GOOD = ("sub-01", "sub-12", "sub-13")


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scans that fail in twelve ways among three that are fine."""
    root = make_dataset(tmp_path_factory.mktemp("damaged") / "bids", *DAMAGES, *GOOD)
    for label, damage in DAMAGES.items():
        damage.do(image_path(root, label, damage.contrast))
    # A fourth axis of length one is no damage.
    rewrite(image_path(root, "sub-13", "FLAIR"), lambda data: data[..., None])
    return root


@pytest.fixture(scope="module")
def damaged(bids: Path) -> Iterator[Run]:
    """The run on them, in an output folder where an earlier one had succeeded with most."""
    out = bids.with_name("out")
    for label in DAMAGES.keys() - {"sub-10"}:
        folder = out / label / "anat"
        folder.mkdir(parents=True)
        (folder / f"{label}_desc-lesions_stats.json").write_text("{}")
    before = contents(bids)
    with stand_ins():
        yield run(bids, out)
    assert contents(bids) == before, "the input was written to"


def test_the_exit_code_and_the_table_tell_failures(damaged: Run) -> None:
    assert damaged.code == 1
    assert "3 complete, 12 failed" in damaged.text
    results = {
        line.split()[1]: line.split()[3] for line in damaged.text.splitlines() if "│" in line
    }
    assert results == dict.fromkeys(DAMAGES, "FAILED") | dict.fromkeys(GOOD, "complete")


@pytest.mark.parametrize("label", DAMAGES)
def test_a_bad_scan_fails_alone_and_says_why(damaged: Run, label: str) -> None:
    damage = DAMAGES[label]
    [line] = [line for line in damaged.text.splitlines() if line.startswith(f"{label} failed")]
    assert damage.file in line
    assert damage.cause in line
    page = (damaged.out / f"{label}.html").read_text()
    assert "This scan failed" in page
    assert damage.file in page
    assert damage.cause in page
    if damage.step is not None:
        assert line.startswith(f"{label} failed at {damage.step}: ")
        assert f"at the step “{damage.step}”" in page
        step = damage.step.replace(" ", "_")
        assert (damaged.out / f"logs/crash-{label.replace('-', '_')}-{step}.txt").is_file()
    assert stats(damaged.out, label) == (None if label == "sub-10" else {})
    assert (f"{label}: the result of an earlier run stays" in damaged.text) == (label != "sub-10")


@pytest.mark.parametrize("label", GOOD)
def test_the_scans_beside_are_complete(damaged: Run, bids: Path, label: str) -> None:
    measured = stats(damaged.out, label)
    assert measured is not None
    assert measured["count"] == 1
    assert measured["load_ml"] == pytest.approx(LESION_ML, rel=0.1)
    assert measured["images"]["FLAIR"] == f"bids:raw:{label}/anat/{label}_FLAIR.nii.gz"
    assert "This scan failed" not in (damaged.out / f"{label}.html").read_text()
    mask = nib.load(damaged.out / label / "anat" / f"{label}_space-FLAIR_label-lesion_mask.nii.gz")
    flair = nib.load(image_path(bids, label, "FLAIR"))
    assert mask.shape == flair.shape[:3]
    np.testing.assert_allclose(mask.affine, flair.affine, atol=1e-4)


def test_a_scan_that_failed_late_shows_how_far_it_came(damaged: Run) -> None:
    page = (damaged.out / "sub-10.html").read_text()
    assert "sub-10_desc-brain_mosaic.svg" in page
    assert (damaged.out / "sub-10/figures/sub-10_desc-brain_mosaic.svg").is_file()
    assert "sub-10_desc-lesions_mosaic.svg" not in page


def test_nothing_half_written_is_left(damaged: Run) -> None:
    assert_tidy(damaged.out)


def test_only_participants_asked_for_are_processed(
    quick: Counter[str], bids: Path, tmp_path: Path
) -> None:
    done = run(bids, tmp_path / "out", "--participant_label", "sub-01", "02")
    assert done.code == 1
    assert sorted(path.stem for path in done.out.glob("*.html")) == ["sub-01", "sub-02"]


def test_steps_that_did_not_run_are_not_called_done(
    quick: Counter[str], bids: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(bids, tmp_path / "out", "--participant-label", "02", "-v").code == 1
    assert "sub-02: conform FLAIR FAILED" in caplog.text
    assert "sub-02: conform T1w done" in caplog.text
    assert "find lesions" not in caplog.text


def test_no_usable_scan_is_no_start(quick: Counter[str], bids: Path, tmp_path: Path) -> None:
    earlier = image_path(tmp_path / "out", "sub-06", "x").with_name(
        "sub-06_desc-lesions_stats.json"
    )
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    done = run(bids, tmp_path / "out", "--participant-label", "05", "06", "08")
    assert done.code == 70
    assert earlier.read_text() == "{}"
    for label in ("sub-05", "sub-06", "sub-08"):
        [line] = [line for line in done.text.splitlines() if f" {label}: " in line]
        assert DAMAGES[label].cause in line
        assert DAMAGES[label].cause in (done.out / f"{label}.html").read_text()
    assert quick.total() == 0


def test_a_participant_without_images_is_named(quick: Counter[str], tmp_path: Path) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    (bids / "sub-02" / "func").mkdir(parents=True)
    done = run(bids, tmp_path / "out")
    assert done.code == 1
    assert "1 complete, 1 failed" in done.text
    assert "sub-02 failed: No image is found" in done.text
    assert "No image is found" in (done.out / "sub-02.html").read_text()


@pytest.mark.parametrize(("skull_strip", "used"), [("auto", True), ("skip", False)])
def test_a_failed_scan_shows_its_choices(
    quick: Counter[str], tmp_path: Path, skull_strip: str, used: bool
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    image_path(bids, "sub-01", "T1w").unlink()
    mask = image_path(tmp_path / "prep", "sub-01_space-FLAIR_desc-brain", "mask")
    mask.parent.mkdir(parents=True)
    shutil.copyfile(image_path(bids, "sub-01", "FLAIR"), mask)
    options = "--derivatives", f"prep={tmp_path / 'prep'}", "--skull-strip", skull_strip
    assert run(bids, tmp_path / "out", *options).code == 70
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert (f"Brain mask: took {mask.name}" in page) == used
    assert (f"Brain mask: {mask.name} was not used" in page) == (not used)


def test_a_file_that_may_not_be_read_fails_its_scan_alone(
    quick: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01", "sub-02")
    closed, open_ = image_path(bids, "sub-02", "T1w"), Path.open

    def refuse(path: Path, *args: str, **options: str) -> object:  # nothing is refused to root
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return open_(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    done = run(bids, tmp_path / "out")
    assert done.code == 1
    assert "1 complete, 1 failed" in done.text
    assert f"sub-02 failed: {closed} may not be read by this user" in done.text


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (truncate, "is no whole NIfTI image"),
        (claim_too_much, "is no whole NIfTI image (its header claims 30000 × 30000"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder with the name of an image"),
    ],
    ids=["cut", "huge", "folder"],
)
def test_a_brain_mask_that_cannot_be_read_is_named(
    quick: Counter[str], tmp_path: Path, damage: Callable[[Path], object], cause: str
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01", "sub-02")
    mask = image_path(tmp_path / "prep", "sub-01_space-FLAIR_desc-brain", "mask")
    mask.parent.mkdir(parents=True)
    shutil.copyfile(image_path(bids, "sub-01", "FLAIR"), mask)
    damage(mask)
    done = run(bids, tmp_path / "out", "--derivatives", f"prep={tmp_path / 'prep'}")
    assert done.code == 1
    assert "1 complete, 1 failed" in done.text
    assert f"{mask} {cause}" in done.text


def test_damaged_weights_are_no_start(
    quick: Counter[str], bids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(card.WEIGHTS_DIR, tmp_path / "weights")
    truncate(folder / "brain.safetensors")
    load = partial(card.load_model_card, folder=folder)
    monkeypatch.setattr(participant, "load_model_card", load)
    done = run(bids, tmp_path / "out")
    assert done.code == 70
    assert "brain.safetensors" in done.text
    assert quick.total() == 0


def test_a_brain_that_is_too_large_for_one_gets_a_verdict(
    quick: Counter[str], tmp_path: Path
) -> None:
    one = make_dataset(tmp_path / "bids", "sub-01")
    whole = run(one, tmp_path / "whole", "--skull-strip", "skip")  # all of a noisy head
    assert whole.code == 0, whole.text
    (path,) = (tmp_path / "whole").rglob("*_stats.json")
    told = json.loads(path.read_text())
    assert told["icv_ml"] > 2000
    assert told["quality"]["verdict"] == "fail"
    assert any("no usual size of a brain" in reason for reason in told["quality"]["reasons"])
    assert "no usual size of a brain" in whole.text
    assert run(one, tmp_path / "brain").code == 0
    (path,) = (tmp_path / "brain").rglob("*_stats.json")
    assert "no usual size" not in path.read_text()
