"""Planes: the level to cut from, its pixels at the place they are asked for, and their reduction."""

from pathlib import Path

import numpy as np
import pytest

from microtome.planes import LevelPlane, fine_enough, level_plane, resized
from microtome.slides import SlideError, open_slide
from tests.drawn_slides import tissue_like, write_slide


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    return tissue_like(640, 512)


@pytest.fixture(scope="module")
def slide(drawn: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "a.tiff"
    return write_slide(path, drawn, factors=(1, 2, 4), subsampling="444", quality=98)


def test_the_coarsest_level_that_is_fine_enough(slide: Path) -> None:
    with open_slide(slide) as opened:
        for tile_px0 in (40, 63.4, 63.6, 64, 127, 128, 200, 255, 256, 600, 5000):
            enough = [level for level in range(3) if int(tile_px0 / 2**level + 0.5) >= 64]
            assert level_plane(opened, tile_px0, 64).level == max(enough, default=0), tile_px0


@pytest.mark.parametrize(("tile_px0", "fine"), [(511.1, True), (511.0, True), (510.9, False), (512, True), (10**6, True)])
def test_a_tile_is_counted_in_whole_pixels(tile_px0: float, fine: bool) -> None:
    assert fine_enough(2.0, tile_px0, 256) is fine  # 255.5 pixels are 256


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_planes_pixels_are_the_slides_at_that_place(slide: Path, drawn: np.ndarray, level: int) -> None:
    factor, side_px = 2**level, 64
    x_px, y_px = 241 // factor, 203 // factor
    with open_slide(slide) as opened:
        plane = LevelPlane(opened, level)
        found = plane.read(x_px, y_px, side_px)
    assert (plane.downsample, plane.size_px) == (factor, (640 // factor, 512 // factor))
    assert (found.shape, found.dtype) == ((side_px, side_px, 3), np.uint8)
    means = drawn.reshape(512 // factor, factor, 640 // factor, factor, 3).mean((1, 3))
    here, beside = (np.abs(found - means[y_px : y_px + side_px, x : x + side_px]).mean() for x in (x_px, x_px + 1))
    assert here < 1.5
    assert here < 0.6 * beside, "one pixel beside it is another place"


def test_a_place_that_cannot_be_read_is_named(slide: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tiff"
    data = bytearray(slide.read_bytes())
    start = data.index(b"\xff\xd8\xff")
    data[start : start + 60] = bytes(60)  # the first tile's header
    broken.write_bytes(data)
    with open_slide(broken) as opened, pytest.raises(SlideError, match=r"cannot read 64 x 64 px of level 0 at \(3, 5\)"):
        LevelPlane(opened, 0).read(3, 5, 64)


def test_reduced_pixels_are_means_of_areas() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    assert resized(pixels, 60) is pixels
    for side_px in (30, 20, 1):
        step = 60 // side_px
        means = pixels.reshape(side_px, step, side_px, step, 3).mean((1, 3))
        assert np.abs(resized(pixels, side_px) - means).max() <= 0.5
    ours, theirs = np.arange(41) * 1.5, np.arange(61)  # edges of pixels, of which parts count, too
    weights = np.clip(np.minimum.outer(ours[1:], theirs[1:]) - np.maximum.outer(ours[:-1], theirs[:-1]), 0, None)
    means = np.einsum("ia,jb,abc->ijc", weights, weights, pixels) / 1.5**2
    assert np.abs(resized(pixels, 40) - means).max() <= 0.501


def test_a_hair_too_few_pixels_are_drawn_out_without_a_shift() -> None:
    ramp = np.repeat(np.linspace(0, 254, 127, dtype=np.uint8)[None, :, None].repeat(127, 0), 3, axis=2)
    found = resized(ramp, 128)
    assert found.shape == (128, 128, 3)
    centres = (np.arange(128) + 0.5) * 127 / 128 - 0.5
    assert np.abs(found[64, :, 0] - np.interp(centres, np.arange(127), ramp[64, :, 0])).max() <= 1
