"""Gigapixel slides without a small level: their thumbnail would read all of level 0, and decodes its JPEG tiles at 1/8 instead.

What cannot be decoded so is refused by `thumbnails.read_thumbnail`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from microtome.jpeg_tiles import MAX_ROWS_B, JpegPlane, Unusual, check_agreement, jpeg_levels, rows_b
from microtome.slides import Rgb8, Slide, open_slide
from microtome.thumbnails import BLOCK_PX, ENOUGH, GIGAPIXEL

SCALE = 8  # the smallest at which libjpeg decodes: a pixel is the mean of a block
CHECKED_PX = 64  # side of the region in the middle of the slide that is compared with OpenSlide's


class WithEighth:
    """A slide with one more level behind its level 0, which is that level decoded at 1/8."""

    def __init__(self, slide: Slide, plane: JpegPlane) -> None:
        self.path, self.vendor, self.properties = slide.path, slide.vendor, slide.properties
        self.level_sizes_px = (slide.level_sizes_px[0], plane.size_px, *slide.level_sizes_px[1:])
        self.downsamples = (1.0, plane.downsample, *slide.downsamples[1:])
        self._slide, self._plane = slide, plane

    def read(self, x_px0: int, y_px0: int, level: int, width_px: int, height_px: int) -> Rgb8:
        """The region of `level` whose top left corner is (x_px0, y_px0) at level 0."""
        if level == 1:
            return self._plane.region(round(x_px0 / SCALE), round(y_px0 / SCALE), width_px, height_px)
        return self._slide.read(x_px0, y_px0, max(0, level - 1), width_px, height_px)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._slide.__exit__(*exception)


@contextmanager
def open_for_thumbnail(path: Path) -> Iterator[Slide]:
    """Open a slide; where it is a gigapixel of JPEG tiles without a level as large as 1/8, with that level.

    Raises:
        SlideError: it cannot be opened.
    """
    with open_slide(path) as slide, path.open("rb") as file:
        yield _with_eighth(slide, file.fileno())


def _with_eighth(slide: Slide, descriptor: int) -> Slide:
    width_px, height_px = slide.level_sizes_px[0]
    if width_px * height_px < GIGAPIXEL or min(slide.downsamples[1:], default=math.inf) <= ENOUGH * SCALE:
        return slide
    try:
        level = jpeg_levels(slide)[0]
        if any(side % SCALE for side in level.tile_px) or rows_b(level, SCALE, BLOCK_PX) > MAX_ROWS_B:
            return slide
        plane = JpegPlane(descriptor, level, SCALE)
        if min(plane.size_px) < CHECKED_PX:
            return slide
        x_px, y_px = (side_px // 2 for side_px in plane.size_px)
        check_agreement(plane, slide, x_px - CHECKED_PX // 2, y_px - CHECKED_PX // 2, CHECKED_PX)
        return WithEighth(slide, plane)
    except Unusual:
        return slide
