"""The parts of benchmarks/quality.py that break scans and compare them with the limits."""

import math

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from benchmarks.quality import BREAKAGES, BROKEN, blur, compare_limits, dim, zero_top

SIZES = (1.0, 1.0, 5.0)


def draw() -> nib.Nifti1Image:
    data = np.zeros((36, 36, 20), np.float32)
    data[10:26, 10:26, :18] = 100
    return nib.Nifti1Image(data, np.diag([*SIZES, 1.0]))


def test_the_top_is_set_to_0_and_the_grid_stays():
    broken = zero_top({"FLAIR": draw()}, {})["FLAIR"]
    data = broken.get_fdata()
    assert broken.shape == draw().shape
    assert np.flatnonzero(data.any(axis=(0, 1))).max() == 18 - 1 - 30 / SIZES[2]


def test_every_other_slice_is_dimmed_along_the_thick_axis():
    signals = dim({"FLAIR": draw()}, {})["FLAIR"].get_fdata()[18, 18]
    assert signals[:4] == pytest.approx([70, 100, 70, 100])


def test_a_blur_keeps_the_signal_and_softens_the_edges():
    blurred = blur({"FLAIR": draw()}, {})["FLAIR"].get_fdata()
    assert 20 < blurred[10, 18, 8] < blurred[17, 18, 8] <= 100


def test_all_that_is_to_be_broken_can_be():
    assert {kind for kinds in BROKEN.values() for kind in kinds} == set(BREAKAGES)


def test_the_closest_sound_scan_and_the_closest_broken_one_beyond_stand_beside_a_limit():
    scans = ["sounda", "soundb", "noisya", "noisyb"]
    table = compare_limits(pd.DataFrame({"scan": scans, "snr": [40.0, 30.0, 12.0, 4.0]}))
    rows = {row["limit"]: row for row in table.to_dict("records")}
    assert set(table["measure"]) == {"snr"}
    assert rows["warn < 15"] == {
        "measure": "snr",
        "limit": "warn < 15",
        "sound": 30,
        "broken beyond": 2,
        "closest": 12,
    }
    assert (rows["fail < 5"]["broken beyond"], rows["fail < 5"]["closest"]) == (1, 4)
    assert rows["warn > 300"]["sound"] == 40
    assert math.isnan(rows["warn > 300"]["closest"])
