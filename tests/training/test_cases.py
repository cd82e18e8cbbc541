"""Which mask belongs to a scan."""

import pytest

from cascade_bids.bids.scan import Scan
from cascade_bids.errors import UsageError
from cascade_bids.training.cases import find_lesion_mask


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
    for space in ("FLAIR", "T1w"):
        (tmp_path / f"sub-01_space-{space}_label-lesion_mask.nii.gz").touch()
    with pytest.raises(UsageError, match="sub-01 has several lesion masks"):
        find_lesion_mask(Scan("01", None, None), tmp_path)
