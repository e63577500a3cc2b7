"""Where the tiles of a slide lie, and which part of the tissue mask belongs to each.

All lengths are level-0 pixels (`_px0`). The grid's part of the slide is cut into `columns` x `rows` equal cells; each holds one tile, and
`subpixels` x `subpixels` pixels of the tissue mask.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microtome.config import Grid
from microtome.slides import SlideError

MAX_UPSAMPLING = 1.01  # a level 0 this much coarser than wanted still serves: nominal 0.5 µm/px is 0.499 or 0.503 on real scanners


@dataclass(frozen=True)
class TileGrid:
    """Places of the tiles of a slide: tile (row, column) has its top left corner at (x_px0[column], y_px0[row])."""

    x_px0: NDArray[np.float64]  # [columns]
    y_px0: NDArray[np.float64]  # [rows]
    tile_px0: float  # side of a tile
    cell_px0: tuple[float, float]  # width and height of a cell; cell (0, 0) begins at the slide's origin

    @property
    def columns(self) -> int:
        """Number of tiles side by side."""
        return len(self.x_px0)

    @property
    def rows(self) -> int:
        """Number of tiles one under another."""
        return len(self.y_px0)


def tile_grid(width_px0: int, height_px0: int, mpp: float, grid: Grid) -> TileGrid:
    """The grid of a slide of `width_px0` x `height_px0` pixels of `mpp` µm.

    published: a tile's side is tile_px x grid.mpp / mpp level-0 pixels; as many whole tiles as fit (the official code rounds, which can
    push the last tile over the edge; here none leaves the slide or overlaps another); the margin left is spread evenly between them.
    aligned: the side is rounded to whole level-0 pixels and tiles follow one another from the origin.

    Raises:
        SlideError: a finer resolution is wanted than level 0 has.
    """
    if mpp > grid.mpp * MAX_UPSAMPLING:
        raise SlideError(
            f"level 0 has {mpp:g} µm/px, coarser than the {grid.mpp:g} that grid.mpp wants: raise grid.mpp, or leave the slide out"
        )
    tile_px0 = grid.tile_px * grid.mpp / mpp
    if grid.layout == "aligned":
        tile_px0 = float(round(tile_px0))
    columns, rows = int(width_px0 // tile_px0), int(height_px0 // tile_px0)
    if grid.layout == "aligned":
        return TileGrid(np.arange(columns) * np.float64(tile_px0), np.arange(rows) * np.float64(tile_px0), tile_px0, (tile_px0, tile_px0))
    cell_px0 = (width_px0 / max(columns, 1), height_px0 / max(rows, 1))
    return TileGrid(_spread(width_px0, tile_px0, columns), _spread(height_px0, tile_px0, rows), tile_px0, cell_px0)


def _spread(length_px0: int, tile_px0: float, count: int) -> NDArray[np.float64]:
    """Origins of `count` tiles from one edge to the other; a single one lies in the middle."""
    if count == 1:
        return np.array([(length_px0 - tile_px0) / 2])
    return np.linspace(0, length_px0 - tile_px0, count)
