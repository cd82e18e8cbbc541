"""A raw file is read to its end, or refused by name."""

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.errors import ScanError
from cascade_bids.preprocess.load import load_image


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "sub-01_FLAIR.nii.gz"
    data = np.random.default_rng(0).normal(size=(20, 21, 22)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def test_whole_file_is_opened(path):
    assert load_image(path).shape == (20, 21, 22)


def test_checksum_is_read(path):
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(ScanError, match=r"sub-01_FLAIR\.nii\.gz is no whole NIfTI image"):
        load_image(path)


@pytest.mark.parametrize("kept", [10, 500, 20_000])
def test_truncated_file_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ScanError, match="copy it again"):
        load_image(path)


def test_foreign_file_is_refused(tmp_path):
    path = tmp_path / "notes.nii"
    path.write_text("no image")
    with pytest.raises(ScanError, match=r"notes\.nii"):
        load_image(path)
