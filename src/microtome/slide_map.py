"""The part of a slide that its tiles take, drawn small, with a colour for each tile.

Places on the slide are level-0 pixels (`_px0`), those on the drawing pixels (`_px`) from its top left corner.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from microtome.one_level import open_for_thumbnail
from microtome.slides import Rgb8, SlideError
from microtome.thumbnails import read_thumbnail

MARGIN_TILES = 1
COLOUR = 0.7  # how much of what is seen is the tile's colour; the rest is the tissue under it, in light grey
LIGHT = 0.6  # the darkest tissue is this light
BARS_MM = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]


@dataclass(frozen=True)
class Part:
    """A part of a slide: where it begins, how large it is, and how many level-0 pixels one of the drawing's covers."""

    origin_px0: tuple[float, float]
    size_px0: tuple[float, float]
    downsample: float

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the drawing."""
        return max(1, round(self.size_px0[0] / self.downsample)), max(1, round(self.size_px0[1] / self.downsample))

    def places_px(self, coords_px0: NDArray[np.int64]) -> NDArray[np.float64]:
        """Where points [n, 2] of the slide lie in the drawing."""
        return np.asarray((coords_px0 - np.array(self.origin_px0)) / self.downsample)


def part_of(coords_px0: NDArray[np.int64], tile_px0: float, slide_px0: tuple[float, float], side_px: int) -> Part:
    """The part with all tiles (upper left corners `coords_px0` [n, 2]) and a margin, drawn so small that it fits a square of `side_px`."""
    margin_px0 = MARGIN_TILES * tile_px0
    first = np.maximum(coords_px0.min(axis=0) - margin_px0, 0)
    last = np.minimum(coords_px0.max(axis=0) + tile_px0 + margin_px0, slide_px0)
    width_px0, height_px0 = (last - first).tolist()
    return Part((float(first[0]), float(first[1])), (width_px0, height_px0), max(width_px0, height_px0) / side_px)


def picture(path: Path, part: Part) -> tuple[Rgb8, str]:
    """The part of the slide, and why it could not be read ("" where it could): then it is white, for the slide may be archived."""
    try:
        with open_for_thumbnail(path) as slide:
            return read_thumbnail(slide, part.size_px0, *part.size_px, part.origin_px0), ""
    except SlideError as error:
        width_px, height_px = part.size_px
        return np.full((height_px, width_px, 3), 255, np.uint8), str(error)


def painted(under: Rgb8, part: Part, coords_px0: NDArray[np.int64], tile_px0: float, colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """[h, w, 3] in 0..1: the picture in light grey, each tile in its colour ([n, 3] in 0..1), through which the tissue is seen."""
    grey = LIGHT + (1 - LIGHT) * under.astype(np.float64).mean(axis=2, keepdims=True) / 255
    seen = np.repeat(grey, 3, axis=2)
    places_px, side_px = part.places_px(coords_px0), tile_px0 / part.downsample
    first, last = np.floor(places_px).astype(int), np.ceil(places_px + side_px).astype(int)  # no gap between neighbours
    for (left, top), (right, bottom), colour in zip(first.tolist(), last.tolist(), colours, strict=True):
        seen[top:bottom, left:right] = through(colour, grey[top:bottom, left:right])
    return seen


def through(colour: NDArray[np.float64], grey: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """A tile's colour over light grey tissue."""
    return np.asarray(COLOUR * colour + (1 - COLOUR) * grey)


def outline(axes: Axes, part: Part, coords_px0: NDArray[np.int64], tile_px0: float, colour: str) -> None:
    """Outlines of tiles on a drawing whose axes are in its pixels."""
    side_px = tile_px0 / part.downsample
    for left_px, top_px in part.places_px(coords_px0).tolist():
        axes.add_patch(Rectangle((left_px - 0.5, top_px - 0.5), side_px, side_px, fill=False, edgecolor=colour, linewidth=1.0))


def scale_bar(axes: Axes, part: Part, mpp_px0: float) -> None:
    """A bar of round length under a drawing, where µm per level-0 pixel is known."""
    width_px, height_px = part.size_px
    if not mpp_px0 > 0:
        return
    px_per_mm = 1000 / mpp_px0 / part.downsample
    length_mm = max((bar for bar in BARS_MM if bar * px_per_mm < width_px / 3), default=BARS_MM[0])
    below_px = height_px + 10
    axes.plot([0, length_mm * px_per_mm], [below_px, below_px], color="black", linewidth=1.2, clip_on=False, solid_capstyle="butt")
    axes.annotate(f"{length_mm:g} mm", (length_mm * px_per_mm + 8, below_px), va="center", annotation_clip=False)
    axes.set_xlim(-0.5, width_px - 0.5)
    axes.set_ylim(height_px - 0.5, -0.5)
