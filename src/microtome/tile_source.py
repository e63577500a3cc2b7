"""Where a slide's tiles come from: cut from a plane and encoded, or the source's own JPEG tiles, copied.

Fast where the slide allows it, by OpenSlide otherwise; the choice is made by slide and stands in the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Protocol

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from microtome.grid import TileGrid
from microtome.jpeg_tiles import EOI, JpegPlane, Unusual, check_agreement, jpeg_plane
from microtome.planes import Plane, level_plane, resized
from microtome.settings import TilesSettings
from microtome.slides import Rgb8, Slide
from microtome.tile_quality import Quality, good_enough, measure

Tile = tuple[bytes, Quality]  # a JPEG file
Place = tuple[int, int]  # row and column in the slide's grid
AHEAD_B = 2**16  # bytes of the source read at once to copy its tiles: four to eight of them
UNMEASURED = Quality(nan, nan, nan)


@dataclass(frozen=True)
class Cut:
    """How tiles are cut from a plane: a tile's side, and where each column and row begins, in the plane's pixels."""

    side_px: int
    x_px: list[int]
    y_px: list[int]
    shift_px0: float  # the farthest that a tile was moved to begin at a whole pixel


def cut_at(places: TileGrid, plane: Plane) -> Cut:
    """Move the grid to whole pixels of the plane, none beyond its edge."""
    side_px = min(round(places.tile_px0 / plane.downsample), *plane.size_px)

    def snapped(origin_px0: NDArray[np.float64], size_px: int) -> NDArray[np.int64]:
        return np.minimum(np.rint(origin_px0 / plane.downsample).astype(np.int64), size_px - side_px)

    x_px, y_px = snapped(places.x_px0, plane.size_px[0]), snapped(places.y_px0, plane.size_px[1])
    shift_px0 = max(np.abs(x_px * plane.downsample - places.x_px0).max(), np.abs(y_px * plane.downsample - places.y_px0).max())
    return Cut(side_px, x_px.tolist(), y_px.tolist(), float(shift_px0))


class TileSource(Protocol):
    """Gives a slide's tiles one by one."""

    reader: str
    plane: Plane
    cut: Cut

    def tile(self, place: Place) -> Tile | None:
        """A tile, or None where it is too blurred or blank.

        Raises:
            SlideError: it cannot be read; names the place.
        """


class CutTiles:
    """Tiles cut from a plane, area-averaged to `tile_px`, measured and encoded."""

    def __init__(self, plane: Plane, cut: Cut, settings: TilesSettings) -> None:
        self.reader = "jpeg" if isinstance(plane, JpegPlane) else "openslide"
        self.plane, self.cut, self._settings = plane, cut, settings

    def pixels(self, place: Place) -> Rgb8:
        """A tile's pixels [tile_px, tile_px, 3]."""
        row, column = place
        region = self.plane.read(self.cut.x_px[column], self.cut.y_px[row], self.cut.side_px)
        return resized(region, self._settings.grid.tile_px)

    def tile(self, place: Place) -> Tile | None:
        """Cut, measure and encode a tile."""
        pixels, tiles = self.pixels(place), self._settings.tiles
        quality = measure(pixels)
        if not good_enough(quality, tiles):
            return None
        return simplejpeg.encode_jpeg(pixels, tiles.jpeg_quality, colorsubsampling=tiles.jpeg_subsampling), quality


class CopiedTiles:
    """Source tiles whose grid, size and resolution are those wanted: their bytes, not encoded again.

    They keep the scanner's JPEG quality. They are decoded, and so measured, where `check_copies` or a limit of quality is set; else
    their measures are NaN, and damage between a tile's header and its end is copied.
    """

    reader = "copy"

    def __init__(self, plane: JpegPlane, cut: Cut, settings: TilesSettings) -> None:
        self.plane: Plane = plane
        self.cut, self._jpegs, self._cut_tiles = cut, plane, CutTiles(plane, cut, settings)
        self._tiles = tiles = settings.tiles
        self._measured = tiles.check_copies or tiles.min_sharpness > 0 or tiles.min_intensity_sd > 0
        self._columns, self._rows = ([px // cut.side_px for px in origins_px] for origins_px in (cut.x_px, cut.y_px))  # of source tiles

    def tile(self, place: Place) -> Tile | None:
        """Copy a tile; one that was not scanned, or does not end as a JPEG does, goes by way of its pixels."""
        row, column = self._rows[place[0]], self._columns[place[1]]
        jpeg = self._jpegs.source_jpeg(row, column, AHEAD_B)
        if jpeg is None or not jpeg.endswith(EOI):
            return self._cut_tiles.tile(place)
        self._jpegs.check_size(jpeg, row, column)
        if not self._measured:
            return jpeg, UNMEASURED
        quality = measure(self._cut_tiles.pixels(place))
        return (jpeg, quality) if good_enough(quality, self._tiles) else None


def can_copy(plane: Plane, cut: Cut, tile_px: int) -> bool:
    """Whether every tile of the grid is one source tile at full scale."""
    if not isinstance(plane, JpegPlane) or plane.scale != 1 or plane.tile_px != (tile_px, tile_px) or cut.side_px != tile_px:
        return False
    return not any(origin % tile_px for origin in (*cut.x_px, *cut.y_px))


def cutting_plane(
    slide: Slide, descriptor: int, places: TileGrid, wanted: Sequence[Place], tile_px: int, fast_path: bool
) -> tuple[Plane, Cut, str]:
    """The plane from which the `wanted` tiles are cut fastest, where on it, and why it is not the fast path ("" where it is).

    `descriptor` is the slide's open file. One tile of the fast path is compared with OpenSlide's pixels first.
    """
    try:
        if not fast_path:
            raise Unusual("tiles.fast_path is off")
        plane = jpeg_plane(slide, descriptor, places.tile_px0, tile_px)
        cut = cut_at(places, plane)
        if wanted:
            row, column = wanted[len(wanted) // 2]
            check_agreement(plane, slide, cut.x_px[column], cut.y_px[row], cut.side_px)
        return plane, cut, ""
    except Unusual as unusual:
        return *openslide_plane(slide, places, tile_px), str(unusual)


def openslide_plane(slide: Slide, places: TileGrid, tile_px: int) -> tuple[Plane, Cut]:
    """The plane from which OpenSlide cuts tiles, and where on it."""
    plane = level_plane(slide, places.tile_px0, tile_px)
    return plane, cut_at(places, plane)


def tile_source(
    slide: Slide, descriptor: int, places: TileGrid, wanted: Sequence[Place], settings: TilesSettings
) -> tuple[TileSource, str]:
    """The fastest way to the `wanted` tiles, and why it is not the fast path ("" where it is)."""
    tile_px = settings.grid.tile_px
    plane, cut, note = cutting_plane(slide, descriptor, places, wanted, tile_px, settings.tiles.fast_path)
    if isinstance(plane, JpegPlane) and can_copy(plane, cut, tile_px):
        return CopiedTiles(plane, cut, settings), note
    return CutTiles(plane, cut, settings), note
