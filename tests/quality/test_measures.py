import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from cascade_bids.config import CONTRASTS
from cascade_bids.lesions.location import load_atlas
from cascade_bids.quality.limits import LIMITS
from cascade_bids.quality.measures import PreparedScan, measure_quality
from cascade_bids.quality.verdict import judge

ATLAS = load_atlas()
BRAIN = np.asarray(ATLAS.dataobj) > 0

NOT_JUDGED = {"t2w_cortex", "pdw_fluid", "pdw_cortex"}


def make(image, brain=BRAIN, *, orientation_known=True, cut=0):
    """Prepare a scan that lies on the template; `cut` slices at the top are missing."""

    def on_grid(data, affine=ATLAS.affine):
        return nib.Nifti1Image(data, affine)

    kept = slice(None, image.shape[2] - cut)
    flair = on_grid(image[:, :, kept])
    return PreparedScan(
        images={"FLAIR": on_grid(image), "T1w": on_grid(-image)},
        brain=on_grid(brain.astype(np.uint8)),
        rigid=np.eye(4),
        affine=np.eye(4),
        flair=flair,
        flair_brain=on_grid(brain[:, :, kept].astype(np.uint8)),
        load_ml=0.0,
        expected_error_ml=0.0,
        orientation_known=orientation_known,
    )


def draw():
    """Draw a head with fluid, cortex and white matter as on a FLAIR."""
    regions = np.asarray(ATLAS.dataobj)
    noise = np.random.default_rng(0).normal(0, 0.05, regions.shape)
    values = np.array([0, 0.2, 3.4, 3, 3.2, 3, 3.2, 0.2])[regions]
    return (values + noise).astype(np.float32)


def test_a_sound_head_on_the_template():
    found = measure_quality(make(draw()))
    assert found["template_dice"] == pytest.approx(1, abs=0.01)
    assert found["flair_fluid"] == pytest.approx(-2.8, abs=0.05)
    assert found["flair_cortex"] == pytest.approx(0.4, abs=0.05)
    assert found["t1w_cortex"] == pytest.approx(-0.4, abs=0.05)
    assert found["missing_superior"] == pytest.approx(0, abs=0.001)


def test_every_measure_has_a_limit_unless_it_is_only_told_and_every_limit_a_measure():
    scan = make(draw())
    images = dict.fromkeys(CONTRASTS, scan.images["FLAIR"])
    names: set[str] = set()
    for known in (True, False):
        names |= measure_quality(replace(scan, images=images, orientation_known=known)).keys()
    judged = [limit.measure for limit in LIMITS]
    assert sorted([*judged, *NOT_JUDGED]) == sorted(names)
    assert {limit.needs for limit in LIMITS if limit.needs} <= set(judged)


@pytest.mark.parametrize("known", [True, False])
def test_a_side_is_named_only_where_the_header_tells_it(known):
    scan = make(draw(), orientation_known=known, cut=60)
    reasons = judge(measure_quality(scan)).reasons
    [cut] = [reason for reason in reasons if "lies beyond" in reason]
    assert ("the superior border" if known else "a border") in cut


@pytest.mark.parametrize(
    "image", [np.zeros(BRAIN.shape, np.float32), np.ones(BRAIN.shape, np.float32), -draw()]
)
@pytest.mark.parametrize("brain", [BRAIN, np.zeros_like(BRAIN)])
def test_whatever_the_images_are_there_is_a_verdict(image, brain):
    measures = measure_quality(make(image, brain))
    entry = judge(measures).to_entry(measures)
    assert entry["verdict"] == "fail"
    json.dumps(entry, allow_nan=False)
