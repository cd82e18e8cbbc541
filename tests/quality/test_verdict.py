import math

import pytest

from cascade_bids.quality.limits import LIMITS
from cascade_bids.quality.verdict import judge


def test_a_scan_passes_without_a_reason():
    assert judge({"snr": 40.0, "brain_ml": 1400.0}).to_entry({"snr": 40.0, "gsr": None}) == {
        "verdict": "pass",
        "reasons": [],
        "measures": {"snr": 40.0, "gsr": None},
    }


def test_the_worst_measure_decides_and_comes_first():
    found = judge({"template_rotation": 50.0, "flair_fluid": 3.0})
    assert found.verdict == "fail"
    assert found.reasons[0].startswith("The ventricles are not dark on the FLAIR (z +3.0")
    assert "turned by 50°" in found.reasons[1]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.measure)
def test_every_limit_flags_what_is_beyond_it_and_tells_the_value(limit):
    beyond = {
        "warn": (limit.warn_below - 0.001, limit.warn_above + 0.001),
        "fail": (limit.fail_below - 0.001, limit.fail_above + 0.001),
    }
    for verdict, values in beyond.items():
        for value in filter(math.isfinite, values):
            found = judge({limit.measure: value})
            also_fails = not limit.fail_below <= value <= limit.fail_above
            assert found.verdict == ("fail" if also_fails else verdict)
            assert len(found.reasons) == 1
            assert "{" not in found.reasons[0]


def test_too_little_noise_is_told_in_other_words_than_too_much():
    told = [judge({"snr": value}).reasons[0] for value in (4.0, 10.0, 400.0)]
    assert ["is noisy" in text for text in told] == [True, True, False]
    assert "hardly any noise" in told[2]


def test_what_is_to_be_distrusted_is_also_to_be_looked_at():
    for limit in LIMITS:
        assert limit.fail_below <= limit.warn_below or limit.warn_below == -math.inf
        assert limit.fail_above >= limit.warn_above or limit.warn_above == math.inf


def test_the_contrast_of_an_image_that_does_not_match_is_not_judged():
    apart = {"t1w_match": 1.0, "t1w_fluid": 0.0, "t1w_cortex": 0.0}
    found = judge(apart)
    assert found.verdict == "fail"
    assert ["does not match" in reason for reason in found.reasons] == [True]
    assert len(judge({**apart, "t1w_match": 1.1}).reasons) == 2


def test_the_contrast_of_the_flair_is_judged_unless_the_brain_lies_elsewhere():
    wrong = {"flair_fluid": 3.0}
    for dice in (0.9, 0.8, 0.5):
        reasons = judge({**wrong, "template_dice": dice}).reasons
        assert len(reasons) == 1
        assert ("does not fit the template" in reasons[0]) == (dice < 0.85)
