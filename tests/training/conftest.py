"""Two scans that are changed at random: a labelled one, and one whose lesions nobody outlined."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.bids.scan import Scan
from cascade_bids.models.cases import Case, save_case
from cascade_bids.models.training_data import ScanKind
from cascade_bids.preprocess.tissue import CSF, GREY, WHITE
from cascade_bids.training.data.tissues import TISSUES
from cascade_bids.training.synthesis import real_scans
from cascade_bids.training.synthesis.real_scans import RealScan, prepare_real

from .tiny_anatomy import SHAPE, TO_TEMPLATE, make_anatomy


@pytest.fixture
def scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealScan:
    """The small head as a real scan of two contrasts, with one lesion.

    Its T1w shows no tissues, so a stand-in finds them.
    """
    anatomy = make_anatomy()
    tissues, inside = anatomy.tissues.numpy(), (anatomy.depth_mm > 0).numpy()
    cortex = tissues == TISSUES.index("cortex")
    noise = np.random.default_rng(0).normal(0, 0.3, (2, *SHAPE))
    images = noise + np.array([0.5, -0.5])[:, None, None, None] * cortex.astype(float)
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[12:15, 20:23, 16:19] = 1
    save_case(
        tmp_path / "case",
        [nib.Nifti1Image(np.where(inside, i, 0).astype(np.float32), TO_TEMPLATE) for i in images],
        nib.Nifti1Image(inside.astype(np.uint8), TO_TEMPLATE),
        nib.Nifti1Image(lesions, TO_TEMPLATE),
        anatomy=None,
    )
    classes = np.full(SHAPE, CSF)
    classes[tissues == TISSUES.index("white")] = WHITE
    classes[cortex] = GREY
    monkeypatch.setattr(real_scans, "classify_tissue", lambda t1w, brain: classes)
    # The head is much smaller than the template.
    monkeypatch.setattr(Case, "to_template", TO_TEMPLATE.astype(np.float32))
    return prepare_real(Case(Scan("1", None, None), tmp_path / "case", ("FLAIR", "T1w")))


@pytest.fixture
def unlabelled(scanned: RealScan, tmp_path: Path) -> RealScan:
    """The same scan, which nobody labelled, and whose front is ignored."""
    ignored = np.zeros(SHAPE, bool)
    ignored[10:30, 25:35, 12:24] = True
    path = tmp_path / "ignore.npy"
    np.save(path, ignored)
    np.save(scanned.case.folder / "lesions.npy", np.zeros(SHAPE, bool))
    return replace(prepare_real(scanned.case), kind=ScanKind.UNLABELLED, ignore_mask=path)
