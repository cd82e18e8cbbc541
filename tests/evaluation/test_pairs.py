"""Which masks belong together."""

import pytest

from cascade_bids.errors import ScanError, UsageError
from cascade_bids.evaluation.pairs import find_masks, list_scans, pair_scan, unused_scans

from .masks import make_mask, put


def _pair(tmp_path, references, predictions):
    for folder, names in (("ref", references), ("pred", predictions)):
        for name in names:
            put(tmp_path / folder, name, make_mask(0))
    ref, pred = find_masks(tmp_path / "ref"), find_masks(tmp_path / "pred")
    pair = pair_scan(list_scans(ref)[0], ref, pred)
    maps = pair.probability and pair.probability.name.removesuffix(".nii.gz")
    names = [path.name.removesuffix(".nii.gz") for path in (pair.reference, pair.prediction)]
    return *names, maps


@pytest.mark.parametrize(
    ("reference", "others", "chosen"),
    [
        # the same session
        ("sub-1_ses-1", ["sub-1_ses-2"], "sub-1_ses-1"),
        # the same run, however it is written; an image without a run fits any
        ("sub-1_run-2", ["sub-1_run-01"], "sub-1_run-02"),
        ("sub-1_run-2", ["sub-1_run-1"], "sub-1"),
        ("sub-1", ["sub-1_run-1"], "sub-1"),
        ("sub-1", [], "sub-1_run-1"),
        # the space of the reference, then FLAIR
        ("sub-1_space-T1w", ["sub-1_space-FLAIR"], "sub-1_space-T1w"),
        ("sub-1", ["sub-1_space-T1w"], "sub-1_space-FLAIR"),
        ("sub-1_space-orig", ["sub-1_space-T1w"], "sub-1_space-FLAIR"),
        ("sub-1", [], "sub-1_space-T1w"),
        # no desc
        ("sub-1", ["sub-1_desc-change"], "sub-1"),
        ("sub-1", [], "sub-1_desc-auto"),
    ],
)
def test_prediction_is_chosen_among_others(tmp_path, reference, others, chosen):
    predictions = [f"{name}_label-lesion_mask" for name in (*others, chosen)]
    found = _pair(tmp_path, [f"{reference}_label-lesion_mask"], predictions)
    assert found == (f"{reference}_label-lesion_mask", f"{chosen}_label-lesion_mask", None)


def test_probability_map_is_that_of_the_mask(tmp_path):
    maps = [f"sub-1_space-{space}_label-lesion_probseg" for space in ("T1w", "FLAIR")]
    predictions = ["sub-1_space-FLAIR_label-lesion_mask", *maps]
    assert _pair(tmp_path, ["sub-1_label-lesion_mask"], predictions)[2] == maps[1]


@pytest.mark.parametrize(
    ("references", "predictions"),
    [
        (["sub-1_desc-a", "sub-1_desc-b"], ["sub-1"]),
        (["sub-1"], ["sub-1_desc-a", "sub-1_desc-b"]),
        (["sub-1"], ["sub-1_run-1", "sub-1_run-2"]),
    ],
)
def test_several_masks_are_not_guessed_between(tmp_path, references, predictions):
    names = [[f"{name}_label-lesion_mask" for name in part] for part in (references, predictions)]
    with pytest.raises(ScanError, match=r"several lesion masks of sub-1 \(sub-1_.*, sub-1_"):
        _pair(tmp_path, *names)


def test_other_masks_are_no_lesion_masks(tmp_path):
    put(tmp_path, "sub-1_desc-brain_mask", make_mask(0))
    with pytest.raises(UsageError, match=r"holds no .*label-lesion_mask"):
        find_masks(tmp_path)


def test_scans_come_in_natural_order_and_unused_ones_are_named(reference, prediction):
    put(prediction, "sub-3_ses-1_label-lesion_mask", make_mask(3))
    ref, pred = find_masks(reference), find_masks(prediction)
    assert [scan.label for scan in list_scans(ref)] == ["sub-1", "sub-2", "sub-10"]
    assert unused_scans(list_scans(ref), pred) == ["sub-3_ses-1"]
