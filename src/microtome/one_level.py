"""Gigapixel slides of one level: a thumbnail of them would read all of level 0, and decodes its JPEG tiles at 1/8 of their size instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from microtome.jpeg_tiles import MAX_ROWS_B, JpegPlane, Unusual, check_agreement, jpeg_levels, rows_b
from microtome.slides import Rgb8, Slide, open_slide
from microtome.thumbnails import BLOCK_PX

GIGAPIXEL = 10**9  # pixels of level 0
SCALE = 8  # the smallest at which libjpeg decodes: a pixel is the mean of a block
CHECKED_PX = 64  # side of the region in the middle of the slide that is compared with OpenSlide's


class WithEighth:
    """A slide with one more level, its level 0 decoded at 1/8."""

    def __init__(self, slide: Slide, plane: JpegPlane) -> None:
        self.path, self.vendor, self.properties = slide.path, slide.vendor, slide.properties
        self.level_sizes_px = (*slide.level_sizes_px, plane.size_px)
        self.downsamples = (*slide.downsamples, plane.downsample)
        self._slide, self._plane = slide, plane

    def read(self, x_px0: int, y_px0: int, level: int, width_px: int, height_px: int) -> Rgb8:
        """The region of `level` whose top left corner is (x_px0, y_px0) at level 0."""
        if level < len(self._slide.downsamples):
            return self._slide.read(x_px0, y_px0, level, width_px, height_px)
        return self._plane.region(round(x_px0 / SCALE), round(y_px0 / SCALE), width_px, height_px)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._slide.__exit__(*exception)


@contextmanager
def open_for_thumbnail(path: Path) -> Iterator[Slide]:
    """Open a slide; where it is a gigapixel in one level of JPEG tiles, with a further level at 1/8.

    Raises:
        SlideError: it cannot be opened.
    """
    with open_slide(path) as slide, path.open("rb") as file:
        yield _with_eighth(slide, file.fileno())


def _with_eighth(slide: Slide, descriptor: int) -> Slide:
    width_px, height_px = slide.level_sizes_px[0]
    if len(slide.downsamples) > 1 or width_px * height_px < GIGAPIXEL:
        return slide
    try:
        (level,) = jpeg_levels(slide)
        if any(side % SCALE for side in level.tile_px) or rows_b(level, SCALE, BLOCK_PX) > MAX_ROWS_B:
            return slide
        plane = JpegPlane(descriptor, level, SCALE)
        if min(plane.size_px) < CHECKED_PX:
            return slide
        x_px, y_px = (side_px // 2 for side_px in plane.size_px)
        check_agreement(plane, slide, x_px - CHECKED_PX // 2, y_px - CHECKED_PX // 2, CHECKED_PX)
        return WithEighth(slide, plane)
    except Unusual:  # OpenSlide reads it, block by block
        return slide
