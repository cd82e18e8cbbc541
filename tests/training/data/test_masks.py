"""Which mask belongs to a scan."""

import pytest

from cascade_bids.bids.scan import Scan
from cascade_bids.errors import UsageError
from cascade_bids.training.data.masks import find_lesion_mask, is_prediction


@pytest.mark.parametrize(
    ("scan", "name", "fits"),
    [
        (Scan("01", None, None), "sub-01_label-lesion_mask.nii.gz", True),
        (Scan("01", None, None), "sub-01_space-FLAIR_label-lesion_mask.nii", True),
        (Scan("01", None, "2"), "sub-01_label-lesion_mask.nii.gz", True),
        (Scan("01", None, "2"), "sub-01_run-2_label-lesion_mask.nii.gz", True),
        (Scan("01", None, "2"), "sub-01_run-1_label-lesion_mask.nii.gz", False),
        (Scan("01", "a", None), "sub-01_ses-a_label-lesion_mask.nii.gz", True),
        (Scan("01", None, None), "sub-01_ses-a_label-lesion_mask.nii.gz", False),
        (Scan("01", None, None), "sub-011_label-lesion_mask.nii.gz", False),
        (Scan("01", None, None), "sub-01_desc-change_label-lesion_mask.nii.gz", False),
        (Scan("01", None, None), "sub-01_label-brain_mask.nii.gz", False),
        (Scan("01", None, None), "sub-01_label-lesion_probseg.nii.gz", False),
    ],
)
@pytest.mark.parametrize("nested", [True, False], ids=["dataset", "flat folder"])
def test_a_mask_is_found_by_its_entities(tmp_path, scan, name, fits, nested):
    folders = (f"sub-{scan.subject}", f"ses-{scan.session}" if scan.session else "", "anat")
    folder = tmp_path.joinpath(*folders) if nested else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    assert find_lesion_mask(scan, tmp_path) == (folder / name if fits else None)


def test_of_two_masks_none_is_guessed(tmp_path):
    for space in ("", "_space-FLAIR"):
        (tmp_path / f"sub-01{space}_label-lesion_mask.nii.gz").touch()
    with pytest.raises(UsageError, match="sub-01 has several lesion masks"):
        find_lesion_mask(Scan("01", None, None), tmp_path)


@pytest.mark.parametrize(
    ("flair", "fits"),
    [("sub-01_FLAIR", False), ("sub-01_space-MNI152NLin6Asym_desc-preproc_FLAIR", True)],
)
def test_a_mask_must_lie_on_the_flair(tmp_path, flair, fits):
    mask = tmp_path / "sub-01_space-MNI152NLin6Asym_label-lesion_mask.nii.gz"
    mask.touch()
    scan = Scan("01", None, None, images={"FLAIR": tmp_path / f"{flair}.nii.gz"})
    assert find_lesion_mask(scan, tmp_path) == (mask if fits else None)


def test_a_prediction_is_no_mask_to_learn_from(tmp_path):
    for kind in ("mask", "probseg"):
        (tmp_path / f"sub-01_space-FLAIR_label-lesion_{kind}.nii.gz").touch()
    with pytest.raises(UsageError, match="is a prediction, for its probability map lies beside"):
        find_lesion_mask(Scan("01", None, None), tmp_path)
    # Of other spaces there is the mask alone.
    assert is_prediction(tmp_path / "sub-01_space-MNI152NLin2009aSym_label-lesion_mask.nii.gz")
    assert not is_prediction(tmp_path / "sub-010_space-FLAIR_label-lesion_mask.nii.gz")
