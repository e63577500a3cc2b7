"""A tile's measures, beside naive ones in float64."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, laplace

from microtome.tile_quality import Quality, good_enough, measure
from tests.stage_settings import tiles_settings


def drawn(blur_px: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(0).normal(150, 40, (96, 96, 3))
    return np.asarray(np.rint(gaussian_filter(noise, (blur_px, blur_px, 0)).clip(0, 255)), np.uint8)


@pytest.mark.parametrize("blur_px", [0.0, 1.5])
def test_measures_are_the_naive_ones(blur_px: float) -> None:
    tile = drawn(blur_px)
    grey = np.rint(tile @ np.array([0.299, 0.587, 0.114]))
    found = measure(tile)
    assert found.mean == pytest.approx(grey.mean(), abs=0.05)
    assert found.sd == pytest.approx(grey.std(), abs=0.05)
    assert found.sharpness == pytest.approx(laplace(grey, mode="mirror").var(), rel=0.02)


def test_blur_lowers_sharpness_and_limits_drop_blurred_and_blank_tiles() -> None:
    assert measure(drawn(1.5)).sharpness < 0.1 * measure(drawn()).sharpness
    blank = measure(np.full((96, 96, 3), 240, np.uint8))
    assert blank == Quality(240.0, 0.0, 0.0)
    sharp, varied = (tiles_settings(tiles={limit: 5.0}).tiles for limit in ("min_sharpness", "min_intensity_sd"))
    assert [good_enough(quality, limits) for limits in (sharp, varied) for quality in (blank, measure(drawn()))] == [False, True] * 2
