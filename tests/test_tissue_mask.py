"""The segmentation, stage by stage against a naive float64 rendering of the published method."""

import colorsys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label

from microtome.config import Tissue
from microtome.tissue_mask import otsu, pen_marks, segment, tile_fraction, without_small_components
from tests.drawn_slides import tissue_like
from tests.stage_settings import changed_config

SETTINGS = changed_config(tissue={"pen_blue_hue": [90, 130]}).tissue  # the published range, as in config/paper.yaml
Image8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def changed(**values: object) -> Tissue:
    return SETTINGS.model_copy(update=values)


# The published method (Campanella 2019, 2023) in float64, written for reading, not for speed.


def naive_blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    sigma = 0.3 * ((5 - 1) * 0.5 - 1) + 0.8
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        image = ndimage.correlate1d(image, kernel, axis=axis, mode="mirror")
    return image


def naive_hsv(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """OpenCV's 8-bit scales: hue 0-180, saturation and value 0-255."""
    flat = [colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in image.reshape(-1, 3)]
    return np.array(flat).reshape(image.shape) * (180, 255, 255)


def naive_pen(image: Image8) -> Mask:
    hue, saturation, value = np.moveaxis(np.rint(naive_hsv(np.rint(naive_blur(image.astype(float))))), -1, 0)
    black = value <= 125
    blue = (hue >= 90) & (hue <= 130) & (saturation >= 30) & (value >= 30)
    green = (hue >= 40) & (hue <= 90) & (saturation >= 30) & (value >= 30)
    return black | blue | green


def naive_grown(pen: Mask, relative_mpp: float, mult: int) -> Mask:
    k = max(1, round(relative_mpp * mult))

    def ellipse(side: int) -> Mask:
        return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(bool)

    eroded = ndimage.binary_erosion(pen, ellipse(k), border_value=1)
    return ndimage.binary_dilation(eroded, ellipse(3 * k)[::-1, ::-1], origin=0 if (3 * k) % 2 else -1)


def naive_otsu(grey: NDArray[np.float64]) -> float:
    def between(threshold: int) -> float:
        dark, bright = grey[grey <= threshold], grey[grey > threshold]
        return len(dark) * len(bright) * (dark.mean() - bright.mean()) ** 2 if len(dark) and len(bright) else -1.0

    return float(max(range(256), key=between))


def naive_components(tiles: Mask, fewest: int) -> Mask:
    labels = label(tiles, connectivity=2)
    return np.isin(labels, [n for n in range(1, labels.max() + 1) if (labels == n).sum() >= fewest])


def pictures(shared_data: Path) -> dict[str, Image8]:
    found = {}
    for path in sorted((shared_data / "thumbs").glob("*.png")):
        with Image.open(path) as picture:
            rgb = np.asarray(picture.convert("RGB"))
        found[path.name] = rgb[: min(rgb.shape[0], 280) // 4 * 4, : min(rgb.shape[1], 360) // 4 * 4].copy()
    return found | {"drawn": marked()}


STROKES = {  # from, to, colour, width
    "black": ((10, 10), (90, 30), (30, 30, 35), 7),
    "blue": ((10, 180), (120, 150), (30, 60, 190), 9),
    "green": ((150, 10), (190, 90), (40, 140, 60), 9),
}


def marked() -> Image8:
    picture = tissue_like(240, 200, seed=3)
    picture[:, 220:] = 255  # not scanned
    for stroke in STROKES.values():
        cv2.line(picture, *stroke)
    picture[100:130, 5:30] = (170, 171, 172)  # a grey shadow
    return picture


def test_every_stage_is_that_of_the_published_method(shared_data: Path) -> None:
    for name, picture in pictures(shared_data).items():
        found = segment(picture, 0.5, SETTINGS)
        pen = pen_marks(picture, 0.5, SETTINGS)
        raw = pen_marks(picture, 0.25, SETTINGS.model_copy(update={"subpixels": 4}))  # k = 1: not eroded
        expected_raw = ndimage.binary_dilation(naive_pen(picture), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
        assert (raw != expected_raw).mean() < 0.01, name  # hue of 8-bit colours is rounded
        grey = naive_blur(picture @ np.array([0.299, 0.587, 0.114]))
        thresholded = np.rint(grey)[~pen & (np.rint(grey) != 255)]
        if len(np.unique(thresholded)) > 1:
            assert abs(found.threshold - naive_otsu(thresholded)) <= 1, name
        dark = np.rint(grey) <= found.threshold
        assert (found.dark != dark).mean() < 0.01, name
        tissue = found.dark & ~pen & (picture.astype(float).std(axis=2) >= 5)
        tiles = tissue.reshape(picture.shape[0] // 4, 4, picture.shape[1] // 4, 4).any(axis=(1, 3))
        kept = np.kron(naive_components(tiles, 10), np.ones((4, 4), bool))
        assert (found.tissue == (tissue & kept)).all(), name


def test_the_whole_method_agrees_with_the_naive_one() -> None:
    picture = marked()
    pen = naive_grown(naive_pen(picture), 0.5, 4)
    grey = np.rint(naive_blur(np.rint(picture @ np.array([0.299, 0.587, 0.114]))))
    dark = grey <= naive_otsu(grey[~pen & (grey != 255)])
    tissue = dark & ~pen & (picture.astype(float).std(axis=2) >= 5)
    tissue &= np.kron(naive_components(tissue.reshape(50, 4, 60, 4).any(axis=(1, 3)), 10), np.ones((4, 4), bool))
    found = segment(picture, 0.5, SETTINGS)
    assert tissue.mean() > 0.2
    assert (found.pen != pen).mean() < 0.01
    assert (found.tissue != tissue).mean() < 0.01


def test_pen_grey_and_white_are_no_tissue_and_tissue_is() -> None:
    found = segment(marked(), 0.5, SETTINGS)
    for start, end, _, width in STROKES.values():
        stroke = cv2.line(np.zeros((200, 240), np.uint8), start, end, 1, width).astype(bool)
        assert found.pen[stroke].mean() > 0.99
        assert not found.tissue[stroke & found.pen].any()
    assert not found.tissue[100:130, 5:30].any()  # grey
    assert not found.tissue[:, 220:].any()  # not scanned
    tissue = np.abs(tissue_like(240, 200, seed=3).astype(int) - 243).max(axis=2) > 20
    unmarked = tissue[:, :216] & ~found.pen[:, :216]
    assert found.tissue[:, :216][unmarked].mean() > 0.9


@settings(deadline=None)
@given(levels=st.lists(st.integers(0, 255), min_size=2, max_size=300).filter(lambda levels: len(set(levels)) > 1))
def test_otsu_is_that_of_scikit_image(levels: list[int]) -> None:
    grey = np.array(levels, np.uint8)

    def between(threshold: float) -> float:
        dark, bright = grey[grey <= threshold].astype(float), grey[grey > threshold].astype(float)
        return len(dark) * len(bright) * (dark.mean() - bright.mean()) ** 2

    assert between(otsu(grey)) == pytest.approx(between(float(threshold_otsu(grey))))


@pytest.mark.parametrize("level", [0, 200, 255])
def test_a_uniform_picture_has_no_threshold_and_no_tissue(level: int) -> None:
    found = segment(np.full((40, 40, 3), level, np.uint8), 0.5, SETTINGS)
    assert np.isnan(found.threshold)
    assert not found.tissue.any()


def test_noise_on_white_is_no_tissue() -> None:
    grey = np.random.default_rng(0).integers(235, 250, (80, 80, 1)).astype(np.uint8)
    assert not segment(np.repeat(grey, 3, axis=2), 0.5, SETTINGS).tissue.any()


def test_hsv_takes_what_is_saturated() -> None:
    picture = np.full((80, 80, 3), 240, np.uint8)
    picture[16:64, 16:64] = (220, 160, 200)  # saturation 70
    found = segment(picture, 0.5, changed(method="hsv"))
    assert found.tissue[20:60, 20:60].all()
    assert not found.tissue[:12].any()
    assert found.threshold == SETTINGS.hsv_min_saturation
    assert not segment(picture, 0.5, changed(method="hsv", hsv_min_saturation=80)).tissue.any()


def test_small_islands_are_dropped() -> None:
    tiles = np.zeros((12, 12), bool)
    tiles[0, 0:9] = True  # nine tiles
    tiles[4:6, 0:5] = True  # ten
    tiles[[8, 9, 10], [8, 9, 10]] = tiles[8:11, 11] = tiles[10, 5:10] = True  # diagonals connect
    assert (without_small_components(tiles, 10) == naive_components(tiles, 10)).all()
    assert without_small_components(tiles, 0).sum() == tiles.sum()


def test_the_fraction_of_a_tile_is_that_of_its_subpixels() -> None:
    mask = np.zeros((4, 8), bool)
    mask[0, :3] = mask[1, 5] = True
    assert tile_fraction(mask, 4).tolist() == [[3 / 16, 1 / 16]]
