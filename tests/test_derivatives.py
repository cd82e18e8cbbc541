"""What a run writes: names, spaces, places, bytes, and what others read in it."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from bids import BIDSLayout

from cascade_bids.metrics.overlap import dice

from .tiny_heads import (
    AFFINE,
    LESION,
    LESION_ML,
    NETWORK_GRID,
    SHAPE,
    T1W_FROM_FLAIR,
    Run,
    assert_tidy,
    contents,
    image_path,
    make_dataset,
    make_head,
    run,
    stand_ins,
    stats,
    validator_errors,
)

MNI = "MNI152NLin2009aSym"
GROUP = ("changes.json", "changes.tsv", "group.html", "lesions.json", "lesions.tsv")
SESSIONS = ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1_run-01")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("cohort")
    bids = make_dataset(folder / "bids", *SESSIONS)
    with stand_ins():
        return run(bids, folder / "out", "--output-spaces", "T1w", MNI)


def test_outputs_keep_session_and_run(cohort: Run) -> None:
    assert cohort.code == 0
    for label in SESSIONS:
        assert stats(cohort.out, label) is not None
        assert label in cohort.text
    pages = sorted(path.name for path in cohort.out.glob("*.html"))
    assert pages == ["sub-01.html", "sub-02.html"]
    page = (cohort.out / "sub-01.html").read_text()
    assert 'id="sub-01_ses-1"' in page
    assert 'id="sub-01_ses-2"' in page
    assert "ses-1 to ses-2" in page
    assert "Change between sessions" not in (cohort.out / "sub-02.html").read_text()


@pytest.mark.parametrize("space", ["FLAIR", "T1w", MNI])
def test_the_lesion_lies_at_its_place_in_every_space(cohort: Run, space: str) -> None:
    name = f"sub-01_ses-1_space-{space}_label-lesion_mask.nii.gz"
    mask = nib.load(cohort.out / "sub-01/ses-1/anat" / name)
    assert mask.shape == (NETWORK_GRID[0] if space == MNI else SHAPE)
    found = nib.affines.apply_affine(mask.affine, np.argwhere(mask.dataobj).mean(axis=0))
    middle = [(part.start + part.stop - 1) / 2 for part in LESION]
    moved = T1W_FROM_FLAIR if space == "T1w" else np.eye(4)
    np.testing.assert_allclose(found, nib.affines.apply_affine(moved @ AFFINE, middle), atol=2)


def test_the_same_input_gives_the_same_bytes(cohort: Run) -> None:
    again = cohort.out.with_name("again")
    with stand_ins():
        run(cohort.out.with_name("bids"), again, "--output-spaces", "T1w", MNI)
    without_group = {
        name: digest for name, digest in contents(cohort.out).items() if name not in GROUP
    }
    assert contents(again) == without_group


def test_the_cohort_report_follows(cohort: Run) -> None:
    done = run(cohort.out.with_name("bids"), cohort.out, level="group")
    assert done.code == 0
    assert done.text.strip() == str(cohort.out / "group.html")
    table = pd.read_csv(cohort.out / "lesions.tsv", sep="\t")
    assert list(table["session_id"]) == ["ses-1", "ses-2", "ses-1"]
    assert table["load_ml"].to_numpy() == pytest.approx(LESION_ML, rel=0.1)
    changes = pd.read_csv(cohort.out / "changes.tsv", sep="\t")
    assert changes[["participant_id", "new_count", "stable_count"]].to_numpy().tolist() == [
        ["sub-01", 0, 1]
    ]
    assert_tidy(cohort.out)


def test_the_official_validator_accepts_the_derivatives(cohort: Run) -> None:
    assert validator_errors(cohort.out) == []


def test_pybids_reads_the_derivatives_back(cohort: Run) -> None:
    layout = BIDSLayout(cohort.out, config=["bids", "derivatives"], validate=False)
    assert layout.get_subjects() == ["01", "02"]
    [mask] = layout.get(
        subject="01", session="2", space="FLAIR", suffix="mask", label="lesion", extension=".nii.gz"
    )
    metadata = mask.get_metadata()
    assert metadata["Type"] == "Lesion"
    assert metadata["SpatialReference"] == ("bids:raw:sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz")
    layout.connection_manager.session.close()


def test_lesions_come_back_on_the_raw_grid_at_their_place(
    tmp_path: Path, reorient: Callable, turned: np.ndarray
) -> None:
    bids = make_dataset(tmp_path / "bids", "sub-01")
    for contrast in ("FLAIR", "T1w"):
        path = image_path(bids, "sub-01", contrast)
        reorient(make_head(contrast, 0)).to_filename(path)
    planted = np.zeros(SHAPE, np.uint8)
    planted[LESION] = 1
    truth = reorient(nib.Nifti1Image(planted, AFFINE))
    with stand_ins(turned):
        done = run(bids, tmp_path / "out")
    assert done.code == 0
    raw = nib.load(image_path(bids, "sub-01", "FLAIR"))
    for name in (
        "label-lesion_mask",
        "label-lesion_probseg",
        "desc-lesions_dseg",
        "desc-brain_mask",
    ):
        image = nib.load(done.out / "sub-01/anat" / f"sub-01_space-FLAIR_{name}.nii.gz")
        assert image.shape == raw.shape
        np.testing.assert_allclose(image.affine, raw.affine, atol=1e-4)
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    mask = nib.load(done.out / "sub-01/anat/sub-01_space-FLAIR_label-lesion_mask.nii.gz")
    assert dice(np.asarray(mask.dataobj), np.asarray(truth.dataobj)) > 0.95
    table = pd.read_csv(done.out / "sub-01/anat/sub-01_space-FLAIR_desc-lesions_dseg.tsv", sep="\t")
    middle = [(part.start + part.stop - 1) / 2 for part in LESION]
    centroid = table[["centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]].to_numpy()[0]
    np.testing.assert_allclose(centroid, nib.affines.apply_affine(AFFINE, middle), atol=2)
