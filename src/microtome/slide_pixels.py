"""Tiles read from the slides themselves, at the places of a tile index: by the same reader as the rule `tiles`, without a JPEG between."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microtome.grid import TileGrid
from microtome.jpeg_tiles import UnreadableTile
from microtome.planes import Plane, resized
from microtome.slide_tiles import SlideTiles
from microtome.slides import Rgb8, open_slide
from microtome.tile_batches import StoredTiles, TileReader
from microtome.tile_source import Cut, cutting_plane, openslide_plane


class SlideFile(NamedTuple):
    """A slide's file, and the side of its tiles in level-0 pixels."""

    path: Path
    tile_px0: float


class SlidePixels:
    """Reads tiles of the slides in `files` (by id); the one read last stays open. One reader a thread: it keeps what it has decoded."""

    def __init__(self, files: Mapping[str, SlideFile], fast_path: bool) -> None:
        self._files, self._fast_path = files, fast_path
        self._opened, self._slide = ExitStack(), ""

    def read_into(self, image: NDArray[np.uint8], tiles: SlideTiles, row: int) -> None:
        """Read tile `row` of a slide into `image` [tile_px, tile_px, 3], RGB.

        Raises:
            SlideError: the slide, or the place on it, cannot be read.
        """
        if tiles.slide != self._slide:
            self._open(tiles)
        try:
            image[:] = self._pixels(self._plane, self._cut, row, tiles.tile_px)
        except UnreadableTile as error:
            if not error.spared_by(self._opened_slide):
                raise
            image[:] = self._pixels(*openslide_plane(self._opened_slide, self._places, tiles.tile_px), row, tiles.tile_px)

    def _pixels(self, plane: Plane, cut: Cut, row: int, tile_px: int) -> Rgb8:
        return resized(plane.read(cut.x_px[self._columns[row]], cut.y_px[self._rows[row]], cut.side_px), tile_px)

    def _open(self, tiles: SlideTiles) -> None:
        self.close()
        path, tile_px0 = self._files[tiles.slide]
        slide = self._opened_slide = self._opened.enter_context(open_slide(path))
        descriptor = self._opened.enter_context(path.open("rb")).fileno()
        x_px0, self._columns = np.unique(tiles.coords_px0[:, 0].astype(np.float64), return_inverse=True)
        y_px0, self._rows = np.unique(tiles.coords_px0[:, 1].astype(np.float64), return_inverse=True)
        places = self._places = TileGrid(x_px0, y_px0, tile_px0, (tile_px0, tile_px0))
        wanted = list(zip(self._rows.tolist(), self._columns.tolist(), strict=True))
        self._plane, self._cut, _ = cutting_plane(slide, descriptor, places, wanted, tiles.tile_px, self._fast_path)
        self._slide = tiles.slide

    def close(self) -> None:
        """Close the slide."""
        self._slide = ""
        self._opened.close()


def tile_pixels(tiles: SlideTiles, row: int, file: SlideFile) -> Rgb8:
    """The pixels of one tile [tile_px, tile_px, 3]: the stored ones, or the slide's where the tile was not stored.

    Raises:
        UserError, SlideError: it cannot be read.
    """
    image = np.empty((tiles.tile_px, tiles.tile_px, 3), np.uint8)
    reader: TileReader = StoredTiles() if tiles.tar.is_file() else SlidePixels({tiles.slide: file}, fast_path=False)
    with closing(reader):
        reader.read_into(image, tiles, row)
    return image
