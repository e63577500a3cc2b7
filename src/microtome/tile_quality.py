"""Cheap measures of a tile's pixels, for the index and for leaving bad tiles out."""

from typing import NamedTuple

import cv2

from microtome.config import Tiles
from microtome.slides import Rgb8


class Quality(NamedTuple):
    """Of a tile's grey levels (0-255): mean, standard deviation, and the variance of the Laplacian (3 x 3), which blur lowers."""

    mean: float
    sd: float
    sharpness: float


def measure(tile: Rgb8) -> Quality:
    """Measure a tile [tile_px, tile_px, 3]."""
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)
    mean, sd = cv2.meanStdDev(grey)
    laplacian = cv2.Laplacian(grey, cv2.CV_16S)
    variance = cv2.norm(laplacian, cv2.NORM_L2SQR) / grey.size - cv2.mean(laplacian)[0] ** 2
    return Quality(float(mean[0, 0]), float(sd[0, 0]), variance)


def good_enough(quality: Quality, settings: Tiles) -> bool:
    """Neither blurred nor blank. Pen-covered tiles are left out by `min_tissue_fraction`: pen marks are no tissue."""
    return quality.sharpness >= settings.min_sharpness and quality.sd >= settings.min_intensity_sd
