import numpy as np
import pytest

from cascade_bids.lesions.location import CORTEX, VENTRICLE, WHITE_MATTER
from cascade_bids.quality.contrast import measure_contrast

REGIONS = np.zeros((12, 12, 12), int)
REGIONS[:4], REGIONS[4:8], REGIONS[8:] = VENTRICLE, CORTEX, WHITE_MATTER
BRAIN = np.ones(REGIONS.shape, bool)


def draw(fluid, cortex, white):
    values = np.zeros(REGIONS.max() + 1)
    values[[VENTRICLE, CORTEX, WHITE_MATTER]] = fluid, cortex, white
    return values[REGIONS] + np.random.default_rng(0).normal(0, 0.1, REGIONS.shape)


def test_fluid_and_cortex_are_measured_beside_white_matter():
    found = measure_contrast(draw(-4, 0.5, 0.2), BRAIN, REGIONS, "FLAIR")
    assert found["fluid"] == pytest.approx(-4.2, abs=0.1)
    assert found["cortex"] == pytest.approx(0.3, abs=0.05)


def test_lesions_in_a_third_of_the_white_matter_do_not_change_it():
    image = draw(-4, 0.5, 0.2)
    image[8:, :4] = 5
    assert measure_contrast(image, BRAIN, REGIONS, "FLAIR")["cortex"] == pytest.approx(0.3, abs=0.1)


def test_only_the_brain_counts():
    brain = BRAIN.copy()
    brain[:4] = False
    found = measure_contrast(draw(-4, 0.5, 0.2), brain, REGIONS, "FLAIR")
    assert found["fluid"] is None
    assert found["cortex"] is not None


@pytest.mark.parametrize(("name", "fluid"), [("FLAIR", -4.0), ("T1w", -4.0), ("T2w", 4.0)])
def test_ventricles_that_fill_a_third_of_their_place_still_show_their_contrast(name, fluid):
    image = draw(fluid, 0.5, 0)
    image[:4, 4:] = 0
    assert measure_contrast(image, BRAIN, REGIONS, name)["fluid"] == pytest.approx(fluid, abs=0.2)
