"""Planes: a slide's pixels at one resolution, to cut tiles from.

A plane has its own pixels (`_px`), each `downsample` level-0 pixels wide, with the same origin as level 0.
"""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from microtome.slides import Rgb8, Slide


class Plane(Protocol):
    """What tiles are cut from."""

    @property
    def downsample(self) -> float:
        """Level-0 pixels per pixel."""

    @property
    def level_downsample(self) -> float:
        """That of the slide's level from which its pixels come: 1 is level 0."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""

    def read(self, x_px: int, y_px: int, side_px: int) -> Rgb8:
        """The square region [side_px, side_px, 3] whose top left corner is (x_px, y_px).

        Raises:
            SlideError: it cannot be read; names the place.
        """


@dataclass(frozen=True)
class LevelPlane:
    """A level of a slide as its reader gives it."""

    slide: Slide
    level: int

    @property
    def downsample(self) -> float:
        """Level-0 pixels per pixel."""
        return self.slide.downsamples[self.level]

    @property
    def level_downsample(self) -> float:
        """The level's own."""
        return self.downsample

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.slide.level_sizes_px[self.level]

    def read(self, x_px: int, y_px: int, side_px: int) -> Rgb8:
        """The square region [side_px, side_px, 3] at (x_px, y_px)."""
        return self.slide.read(round(x_px * self.downsample), round(y_px * self.downsample), self.level, side_px, side_px)


def fine_enough(downsample: float, tile_px0: float, tile_px: int) -> bool:
    """Whether a tile covers at least as many whole pixels of a plane as it shall have."""
    return round(tile_px0 / downsample) >= tile_px


def level_plane(slide: Slide, tile_px0: float, tile_px: int) -> LevelPlane:
    """The coarsest level that is fine enough; level 0 where none is (it may be up to 1 % coarser than wanted)."""
    fine = [level for level, downsample in enumerate(slide.downsamples) if fine_enough(downsample, tile_px0, tile_px)]
    return LevelPlane(slide, max(fine, default=0))


def resized(pixels: Rgb8, side_px: int) -> Rgb8:
    """Area-averaged to [side_px, side_px, 3]; the few per mille to be gained where level 0 is a hair too coarse are linear."""
    if pixels.shape[:2] == (side_px, side_px):
        return pixels
    method = cv2.INTER_AREA if pixels.shape[0] > side_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (side_px, side_px), interpolation=method), np.uint8)
