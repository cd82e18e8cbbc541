"""A work folder belongs to one training of one version."""

import json

import pytest

from cascade_bids.errors import UsageError
from cascade_bids.training.work_folder import LAYOUT, SETTINGS, claim, require_same


def test_settings_are_written_down_beside_those_that_are_there(tmp_path):
    claim(tmp_path / "work", {"seed": 0})
    claim(tmp_path / "work", {"cases": {"sub-01": "abc"}})
    require_same(tmp_path / "work", {"seed": 0, "method": "cascade"})
    written = json.loads((tmp_path / "work" / SETTINGS).read_text())
    assert written == {"seed": 0, "cases": {"sub-01": "abc"}, "layout": LAYOUT}


def test_a_folder_of_other_settings_is_refused_and_left_alone(tmp_path):
    claim(tmp_path, {"seed": 0, "method": "cascade"})
    before = (tmp_path / SETTINGS).read_bytes()
    with pytest.raises(UsageError, match="belongs to a training with other seed; give another"):
        claim(tmp_path, {"seed": 1, "method": "cascade"})
    assert (tmp_path / SETTINGS).read_bytes() == before


@pytest.mark.parametrize("layout", [{}, {"layout": LAYOUT - 1}], ids=["none", "earlier"])
def test_a_folder_of_another_layout_is_refused(tmp_path, layout):
    (tmp_path / SETTINGS).write_text(json.dumps({"seed": 0, **layout}))
    with pytest.raises(UsageError, match="of another version of cascade_bids; give another"):
        require_same(tmp_path, {"seed": 0})


def test_a_folder_that_nobody_claimed_is_free(tmp_path):
    require_same(tmp_path / "none", {"seed": 0})


@pytest.mark.parametrize(("before", "longer"), [(10.0, 20.0), (10, None)])
def test_a_training_may_go_on_for_longer_but_not_for_shorter(tmp_path, before, longer):
    assert not claim(tmp_path, {"max_minutes": before})
    assert not claim(tmp_path, {"max_minutes": before})
    require_same(tmp_path, {"max_minutes": longer})
    assert claim(tmp_path, {"max_minutes": longer})
    assert not claim(tmp_path, {"max_minutes": longer})
    with pytest.raises(UsageError, match="other max_minutes; give another"):
        claim(tmp_path, {"max_minutes": before})
