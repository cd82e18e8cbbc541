"""Sessions of a small head with known changes are compared from end to end."""

import numpy as np
import pytest
from nibabel.affines import from_matvec
from nilearn.datasets import load_mni152_wm_template
from scipy import ndimage
from scipy.special import expit

import cascade_bids.change.compare as compare_module
from cascade_bids.change.compare import compare, expected_white_matter
from cascade_bids.change.maps import change_map
from cascade_bids.change.table import summarise_intervals
from cascade_bids.errors import ScanError
from cascade_bids.lesions.label import OperatingPoint
from cascade_bids.lesions.location import LOCATIONS

from .volumes import ball

SHAPE = (44, 44, 36)
CORNER_MM = (-47.0, -40.0, 2.0)
"""In the template: white matter of the left hemisphere, with grey matter beside it."""
AFFINE = from_matvec(np.eye(3), CORNER_MM)
POINT = OperatingPoint(0.4, 5.0, 0.5)
SESSIONS = ["ses-1", "ses-2", "ses-3"]
NOISE = 0.15
PLACES = {
    "new": (14, 14, 24),
    "gone": (20, 32, 26),
    "enlarged": (24, 20, 24),
    "stable": (16, 23, 22),
}


@pytest.fixture(scope="module")
def template():
    """Share of white matter, on the common grid."""
    image = load_mni152_wm_template(resolution=1)
    start = np.rint(np.linalg.inv(image.affine) @ (*CORNER_MM, 1))[:3].astype(int)
    return image.get_fdata()[tuple(slice(a, a + n) for a, n in zip(start, SHAPE, strict=True))]


@pytest.fixture(scope="module")
def brain():
    return ball(SHAPE, np.array(SHAPE) / 2, 18)


def lesions(**radii):
    found = np.zeros(SHAPE, bool)
    for place, radius in radii.items():
        found |= ball(SHAPE, PLACES[place], radius)
    return found


def scan(template, brain, lesion, seed, *, gain=1.0, offset=0.0, shading=0.0):
    """Return the FLAIR and the lesion probability of a session.

    White matter is 0, grey matter 1, and a lesion 3; tissue varies by about 1.
    """
    rng = np.random.default_rng(seed)
    signal = ndimage.gaussian_filter(1 - template + lesion * (2 + template), 0.6)
    noisy = signal + rng.normal(0, NOISE, SHAPE)
    slow = shading * np.cos(np.arange(SHAPE[1]) / SHAPE[1] * np.pi)[None, :, None]
    flair = np.where(brain, gain * (noisy + slow) + offset, 0)
    # No network is as sure about the same voxel twice.
    soft = ndimage.gaussian_filter(lesion.astype(float), 0.7)
    unsure = expit(8 * soft - 4 + rng.normal(0, 0.6, SHAPE))
    probability = np.where(brain & (soft > 0.1), unsure, 0)
    return flair.astype(np.float32), probability.astype(np.float32)


@pytest.fixture(scope="module")
def truth():
    """Lesions of each session; what is new in the second is gone in the third."""
    first = lesions(gone=2.5, enlarged=2, stable=3)
    second = lesions(new=3, enlarged=4, stable=3)
    third = lesions(enlarged=4, stable=3)
    return [first, second, third]


@pytest.fixture(scope="module")
def scans(template, brain, truth):
    """Sessions of another gain, offset and shading each."""
    settings = [{}, {"gain": 1.3, "offset": 0.4, "shading": 0.1}, {"gain": 0.8, "shading": -0.1}]
    return [
        scan(template, brain, lesion, seed, **setting)
        for seed, (lesion, setting) in enumerate(zip(truth, settings, strict=True))
    ]


@pytest.fixture(scope="module")
def compare_scans(template, brain):
    """Compare sessions, without locations unless they are asked for, which take the longest."""

    def run(scans, *, earlier=None, to_template=None, min_change_mm3=3.0):
        flairs, probabilities = (np.stack(images) for images in zip(*scans, strict=True))
        return compare(
            flairs,
            probabilities,
            brain,
            template >= 0.6,
            POINT,
            earlier=np.zeros(flairs.shape, np.int32) if earlier is None else earlier,
            affine=AFFINE,
            to_template=to_template,
            sessions=SESSIONS[: len(scans)],
            min_change_mm3=min_change_mm3,
        )

    return run


@pytest.fixture(scope="module")
def compared(compare_scans, scans):
    return compare_scans(scans, to_template=np.eye(4))


def class_at(compared, place, session):
    """Return what the table tells of the lesion at a place."""
    at = compared.track.labels[(slice(None), *PLACES[place])]
    (number,) = set(at.tolist()) - {0}
    table = compared.table
    row = table[(table["lesion"] == number) & (table["session_id"] == session)]
    return row["class"].item() if len(row) else None


def test_expected_white_matter_is_where_the_template_has_it(template):
    found = expected_white_matter(SHAPE, AFFINE, np.eye(4))
    np.testing.assert_array_equal(found, template >= 0.6)
    assert 0.1 < found.mean() < 0.9


def test_expected_white_matter_goes_with_the_head(template):
    shift = from_matvec(np.eye(3), [3.0, 0, 0])
    found = expected_white_matter(SHAPE, AFFINE, shift)
    np.testing.assert_array_equal(found[:-3], template[3:] >= 0.6)


@pytest.mark.parametrize(
    ("place", "second", "third"),
    [
        ("new", "new", "gone"),
        ("gone", "gone", None),
        ("enlarged", "enlarged", "stable"),
        ("stable", "stable", "stable"),
    ],
)
def test_what_happened_to_each_lesion_is_told(compared, place, second, third):
    assert class_at(compared, place, "ses-2") == second
    assert class_at(compared, place, "ses-3") == third


def test_lesions_have_their_places_and_volumes(compared, truth):
    assert compared.table["lesion"].nunique() == len(PLACES)
    for labels, lesion in zip(compared.track.labels, truth, strict=True):
        found = labels > 0
        assert 2 * (found & lesion).sum() / (found.sum() + lesion.sum()) > 0.8
    volumes = compared.table.set_index(["lesion", "session_id"])["volume_mm3"]
    enlarged = compared.track.labels[0][PLACES["enlarged"]]
    assert volumes[enlarged, "ses-1"] == pytest.approx(33, rel=0.4)
    assert volumes[enlarged, "ses-2"] == pytest.approx(257, rel=0.4)


def test_a_lesion_without_change_has_the_same_voxels_in_all_sessions(compared):
    number = compared.track.labels[0][PLACES["stable"]]
    first, second, third = (labels == number for labels in compared.track.labels)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_map_and_summary_tell_the_same(compared):
    intervals = summarise_intervals(compared.table, SESSIONS, [1.0, None])
    for later, interval in enumerate(intervals, start=1):
        drawn = change_map(compared.track, compared.table, SESSIONS, later)
        assert (drawn == 1).sum() / 1000 == pytest.approx(interval["new"]["change_ml"], abs=1e-4)
        assert (drawn == 5).sum() / 1000 == pytest.approx(-interval["gone"]["change_ml"], abs=1e-4)
    assert [interval["new"]["count"] for interval in intervals] == [1, 0]
    assert [interval["gone"]["count"] for interval in intervals] == [1, 1]
    assert intervals[0]["enlarged"]["count"] == 1
    assert intervals[1]["stable"]["count"] == 2


def test_two_scans_of_the_same_lesions_show_no_change(template, brain, compare_scans, truth):
    pair = [
        scan(template, brain, truth[1], seed, gain=seed, shading=0.1 * (seed - 7))
        for seed in (7, 8)
    ]
    compared = compare_scans(pair)
    later = compared.table[compared.table["session_id"] == "ses-2"]
    assert later["class"].tolist() == ["stable"] * 3
    assert not later["change_mm3"].any()


def test_backwards_what_was_new_is_gone(compare_scans, scans):
    backwards = compare_scans(scans[:2][::-1])
    np.testing.assert_array_equal(
        backwards.track.labels[::-1] > 0, compare_scans(scans[:2]).track.labels > 0
    )
    expected = {"new": "gone", "gone": "new", "enlarged": "shrunk", "stable": "stable"}
    assert {place: class_at(backwards, place, "ses-2") for place in PLACES} == expected


def test_no_change_below_the_smallest_one_is_told(compare_scans, scans):
    compared = compare_scans(scans, min_change_mm3=200.0)
    # By half more than the new lesion has, and less than what the enlarged one grew by.
    later = compared.table[compared.table["session_id"] == "ses-2"]
    assert set(later["class"]) == {"enlarged", "stable"}


def test_numbers_of_an_earlier_run_stay(compare_scans, scans):
    two = compare_scans([scans[0], scans[2]]).track.labels
    # The session between the two is added.
    earlier = np.stack([two[0], np.zeros_like(two[0]), two[1]])
    earlier[earlier > 0] += 10
    again = compare_scans(scans, earlier=earlier).track.labels
    for place in ("gone", "enlarged", "stable"):
        assert again[0][PLACES[place]] == earlier[0][PLACES[place]] > 10
    assert again[1][PLACES["new"]] == earlier.max() + 1


def test_lesions_of_the_cerebrum_have_locations_there(compared):
    assert set(compared.table["location"]) <= set(LOCATIONS) - {"infratentorial"}


def test_without_an_orientation_lesions_have_no_location(compare_scans, scans):
    assert compare_scans(scans[:2]).table["location"].isna().all()


def test_a_lesion_has_the_location_at_which_it_is_first_seen(compare_scans, scans, monkeypatch):
    def describe(labels, *_, **__):
        """Return the volume instead."""
        return {number: str((labels == number).sum()) for number in np.unique(labels[labels > 0])}

    monkeypatch.setattr(compare_module, "locate_lesions", describe)
    table = compare_scans(scans, to_template=np.eye(4)).table
    seen = table.groupby("lesion").first()
    assert (seen["location"] == seen["volume_mm3"].astype(int).astype(str)).all()
    assert (table.groupby("lesion")["location"].nunique() == 1).all()
    assert table["volume_mm3"].nunique() > len(seen)


def test_without_normal_white_matter_sessions_are_not_compared(compare_scans, scans):
    flairs, _ = (np.stack(images) for images in zip(*scans, strict=True))
    everywhere = np.full(flairs.shape, 0.3, np.float32)
    with pytest.raises(ScanError, match="can't be compared: no white matter looks normal"):
        compare_scans(list(zip(flairs, everywhere, strict=True)))


def test_a_session_without_signal_is_not_compared(compare_scans, scans):
    blank = (np.zeros(SHAPE, np.float32), scans[1][1])
    with pytest.raises(ScanError, match="can't be compared: an image is constant"):
        compare_scans([scans[0], blank])
