"""Which pixels of a slide's thumbnail are tissue: pure functions on arrays.

A thumbnail is RGB uint8 [rows x subpixels, columns x subpixels, 3]: one tile of the grid is `subpixels` x `subpixels` of its pixels. Masks
are bool of the same height and width. Transparent (unscanned) areas of a slide are exactly white in it.
"""

from dataclasses import dataclass
from math import nan

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome.config import Tissue
from microtome.slides import Rgb8

Mask = NDArray[np.bool_]
WHITE = 255


@dataclass(frozen=True)
class Segmentation:
    """The stages of a segmentation, all bool [height, width] of the thumbnail."""

    pen: Mask
    dark: Mask  # what the threshold keeps, before pen marks and greys are taken away
    tissue: Mask  # the result
    threshold: float  # grey level (published) or saturation (hsv); NaN where there was nothing to threshold


def segment(thumbnail: Rgb8, relative_mpp: float, settings: Tissue) -> Segmentation:
    """Segment a thumbnail by `settings.method`; `relative_mpp` is µm/px of level 0 over the wanted µm/px."""
    found = _published(thumbnail, relative_mpp, settings) if settings.method == "published" else _saturated(thumbnail, settings)
    tiles = without_small_components(any_in_tile(found.tissue, settings.subpixels), settings.min_component_tiles)
    kept = np.kron(tiles, np.ones((settings.subpixels, settings.subpixels), bool))
    return Segmentation(found.pen, found.dark, found.tissue & kept, found.threshold)


def _published(thumbnail: Rgb8, relative_mpp: float, settings: Tissue) -> Segmentation:
    """Campanella 2019 and 2023, as in the official `extract_tissue.py`: darker than Otsu's threshold, no pen mark, not grey."""
    pen = pen_marks(thumbnail, relative_mpp, settings)
    grey = blurred(np.asarray(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY), np.uint8), settings.blur_px)
    threshold = otsu(grey[~pen & (grey != WHITE)])
    dark = grey <= threshold  # Otsu's dark class; nowhere true for NaN
    colourful = thumbnail.std(axis=2) >= settings.grey_max_sd
    return Segmentation(pen, dark, dark & ~pen & colourful, threshold)


def _saturated(thumbnail: Rgb8, settings: Tissue) -> Segmentation:
    """Saturation of the median-filtered thumbnail above a fixed threshold, as CLAM, TRIDENT and eva do. Pen marks are not looked for."""
    smooth = cv2.medianBlur(thumbnail, settings.blur_px | 1) if thumbnail.size else thumbnail
    saturation = cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV)[..., 1] if thumbnail.size else np.zeros(thumbnail.shape[:2], np.uint8)
    saturated = saturation > settings.hsv_min_saturation
    return Segmentation(np.zeros_like(saturated), saturated, saturated, float(settings.hsv_min_saturation))


def pen_marks(thumbnail: Rgb8, relative_mpp: float, settings: Tissue) -> Mask:
    """Black, blue and green pen by hue; specks are eroded away, what stays is dilated to cover the mark's rim.

    Hue is OpenCV's (0 to 180), saturation and value 0 to 255. The kernels are ellipses k and 3 k pixels wide, k = max(1, relative_mpp x
    subpixels), whole pixels.
    """
    hue, saturation, value = cv2.split(cv2.cvtColor(blurred(thumbnail, settings.blur_px), cv2.COLOR_RGB2HSV))
    vivid = (saturation >= settings.pen_min_saturation) & (value >= settings.pen_min_value)
    blue = vivid & (hue >= settings.pen_blue_hue[0]) & (hue <= settings.pen_blue_hue[1])
    green = vivid & (hue >= settings.pen_green_hue[0]) & (hue <= settings.pen_green_hue[1])
    pen = blue | green | (value <= settings.pen_black_max_value)
    k_px = max(1, round(relative_mpp * settings.subpixels))
    eroded = cv2.erode(pen.astype(np.uint8), _ellipse(k_px))
    return cv2.dilate(eroded, _ellipse(3 * k_px)).astype(bool)


def _ellipse(side_px: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side_px, side_px)), np.uint8)


def blurred(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Gaussian blur with a kernel of `side_px` (made odd), whose sigma OpenCV derives from the side: 1.1 for 5."""
    side_px |= 1
    return np.asarray(cv2.GaussianBlur(image, (side_px, side_px), 0), np.uint8)


def otsu(grey: NDArray[np.uint8]) -> float:
    """The grey level that parts uint8 `grey` best into a dark class (up to it) and a bright one (Otsu 1979); NaN for a single level."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    if np.count_nonzero(counts) < 2:
        return nan
    dark = np.cumsum(counts)[:-1]
    bright = counts.sum() - dark
    dark_sum = np.cumsum(counts * np.arange(256))
    with np.errstate(invalid="ignore", divide="ignore"):
        between = dark * bright * (dark_sum[:-1] / dark - (dark_sum[-1] - dark_sum[:-1]) / bright) ** 2
    return float(np.nanargmax(between))


def any_in_tile(mask: Mask, subpixels: int) -> Mask:
    """[rows x subpixels, columns x subpixels] -> [rows, columns]: a tile is true where any of its pixels is."""
    return np.asarray(tile_fraction(mask, subpixels) > 0)


def tile_fraction(mask: Mask, subpixels: int) -> NDArray[np.float32]:
    """[rows x subpixels, columns x subpixels] -> [rows, columns]: the fraction of each tile's pixels that are true."""
    rows, columns = mask.shape[0] // subpixels, mask.shape[1] // subpixels
    return np.asarray(mask.reshape(rows, subpixels, columns, subpixels).mean(axis=(1, 3), dtype=np.float32))


def without_small_components(tiles: Mask, min_tiles: int) -> Mask:
    """Drop connected components (diagonals connect) of fewer than `min_tiles` tiles."""
    if tiles.size == 0:
        return tiles
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(tiles.astype(np.uint8), connectivity=8)
    return np.asarray(tiles & (statistics[labels, cv2.CC_STAT_AREA] >= min_tiles))
