"""Files that nothing can be learned from are named together, before any step begins."""

from pathlib import Path

import nibabel as nib
import pytest

from cascade_bids.bids.scan import Scan
from cascade_bids.config import PreprocessConfig, ResourceConfig
from cascade_bids.errors import StartError
from cascade_bids.models.brain_extraction import CARD
from cascade_bids.models.card import load_model_card
from cascade_bids.models.cases import Case
from cascade_bids.workflows.cases import CaseSettings, run_cases

from ..tiny_heads import make_head


def test_images_and_masks_that_are_none_are_named(tmp_path: Path) -> None:
    cases, masks = [], []
    for label in ("1", "2"):
        flair, mask = (tmp_path / f"sub-{label}_{name}.nii.gz" for name in ("FLAIR", "mask"))
        nib.save(make_head("FLAIR", 0), flair)
        nib.save(make_head("FLAIR", 0), mask)
        scan = Scan(label, None, None, images={"FLAIR": flair})
        cases.append(Case(scan, tmp_path / label, ("FLAIR",)))
        masks.append(mask)
    cases[0].scan.images["FLAIR"].write_bytes(b"")
    masks[1].unlink()
    masks[1].mkdir()
    settings = CaseSettings(
        PreprocessConfig(), ResourceConfig(), load_model_card(CARD), tmp_path / "work"
    )
    with pytest.raises(StartError) as error:
        run_cases(cases, masks, settings)
    assert f"\n  sub-1: {cases[0].scan.images['FLAIR']} is empty" in str(error.value)
    assert f"\n  sub-2: {masks[1]} is a folder" in str(error.value)
    assert not (tmp_path / "work").exists()
