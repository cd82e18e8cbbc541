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
    for verdict, (low, high) in (("warn", limit.warn), ("fail", limit.fail)):
        for beyond in (low - 0.001, high + 0.001):
            if abs(beyond) == float("inf"):
                continue
            found = judge({limit.measure: beyond})
            also_fails = not limit.fail[0] <= beyond <= limit.fail[1]
            assert found.verdict == ("fail" if also_fails else verdict)
            assert len(found.reasons) == 1
            assert "{" not in found.reasons[0]


def test_what_is_to_be_distrusted_is_also_to_be_looked_at():
    for limit in LIMITS:
        assert limit.fail[0] <= limit.warn[0] or limit.warn[0] == -float("inf")
        assert limit.fail[1] >= limit.warn[1] or limit.warn[1] == float("inf")


def test_the_contrast_of_an_image_that_does_not_match_is_not_judged():
    apart = {"t1w_match": 1.0, "t1w_fluid": 0.0, "t1w_cortex": 0.0}
    found = judge(apart)
    assert found.verdict == "fail"
    assert ["does not match" in reason for reason in found.reasons] == [True]
    assert len(judge({**apart, "t1w_match": 1.1}).reasons) == 2


def test_the_contrast_of_the_flair_is_judged_unless_the_brain_lies_elsewhere():
    wrong = {"flair_fluid": 3.0}
    for dice, told in ((0.9, 1), (0.8, 2), (0.5, 1)):
        assert len(judge({**wrong, "template_dice": dice}).reasons) == told
