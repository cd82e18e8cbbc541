"""Lesion masks in template space as they are read."""

import nibabel as nib
import numpy as np

from cascade_bids.config import InputConfig
from cascade_bids.training.data.datasets import LabelledDataset
from cascade_bids.training.data.donors import load_donors

from ..tiny_anatomy import SHAPE, make_donor


def take(folder, *labels):
    return LabelledDataset(InputConfig(folder, participant_labels=labels), folder)


def test_masks_are_read_by_participant_and_empty_ones_left_out(tmp_path):
    donor = make_donor()
    for subject, mask in (("1", donor.mask.numpy()), ("2", np.zeros(SHAPE, np.uint8))):
        folder = tmp_path / f"sub-{subject}" / "anat"
        folder.mkdir(parents=True)
        flipped = nib.Nifti1Image(mask[::-1].copy(), np.diag([-1.0, 1, 1, 1]))
        for space in ("space-MNI152NLin6Asym_", "space-FLAIR_"):
            nib.save(flipped, folder / f"sub-{subject}_{space}label-lesion_mask.nii.gz")
    (found,) = load_donors(take(tmp_path))
    assert found.participant == f"{tmp_path.name}/sub-1"
    np.testing.assert_array_equal(found.mask, donor.mask)
    assert load_donors(take(tmp_path, "sub-1"))
    assert not load_donors(take(tmp_path, "2"))


def test_a_folder_without_masks_has_no_donors(tmp_path):
    assert not load_donors(take(tmp_path))
