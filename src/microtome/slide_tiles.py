"""Where the tiles of one slide are, and what the common toolkits want to know of them. Places are level-0 pixels (`_px0`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microtome.errors import UserError
from microtome.tile_index import read_rows

POWERS = [(0.16, 80), (0.2, 60), (0.3, 40), (0.6, 20), (1.2, 10), (2.4, 5)]  # µm/px finer than, magnification


@dataclass(frozen=True)
class SlideTiles:
    """The tiles of a slide, in the order of its index."""

    slide: str
    tar: Path
    tile_px: int
    coords_px0: NDArray[np.int64]  # [tiles, 2]: x, y of the upper-left corner
    offset_b: NDArray[np.int64]  # [tiles]: first byte of the JPEG in the tar
    size_b: NDArray[np.int32]  # [tiles]

    def __len__(self) -> int:
        return len(self.size_b)


def locate(row: Any, tiles: Path) -> SlideTiles:
    """The tiles of a slide, from its `row` of the catalog and the mapped index of its shard in the folder `tiles`.

    Raises:
        UserError: no index, or one with fewer rows than the catalog says.
    """
    path = tiles / f"{row.shard}.arrow"
    if not path.is_file():
        raise UserError(f"{path}: no such tile index, though the catalog says that {row.slide} has {row.tiles} tiles. Run `tiles` again.")
    index = read_rows(path).slice(int(row.first_row), int(row.tiles))
    if len(index) != row.tiles:
        raise UserError(f"{path}: expected {row.tiles} tiles of {row.slide}, found {len(index)}. Run `tiles` and `catalog` again.")
    x_px0, y_px0, offset_b, size_b = (index[name].to_numpy() for name in ("x_px0", "y_px0", "offset_b", "size_b"))
    coords_px0 = np.stack([x_px0, y_px0], axis=1).astype(np.int64)
    return SlideTiles(str(row.slide), tiles / str(row.shard) / f"{row.slide}.tar", int(row.tile_px), coords_px0, offset_b, size_b)


def toolkit_attributes(row: Any, folder: Path) -> dict[str, Any]:
    """What TRIDENT writes on `coords`, from a slide's `row` of the catalog.

    Magnifications are nominal, and left out where the slide's µm/px is not known. `patch_level`, which CLAM writes on its coordinates, is
    not there: CLAM reads `patch_size` pixels of that level, and no level need have the resolution of our tiles.
    """
    attributes: dict[str, Any] = {"name": row.slide, "savetodir": str(folder), "overlap": 0}
    attributes |= {"patch_size": int(row.tile_px), "patch_size_level0": round(row.tile_px0)}
    attributes |= {"level0_width": int(row.width_px0), "level0_height": int(row.height_px0)}
    level0, target = nominal_magnification(row.mpp_px0), nominal_magnification(row.mpp_px0 * row.tile_px0 / row.tile_px)
    return attributes | ({"level0_magnification": level0, "target_magnification": target} if level0 and target else {})


def nominal_magnification(mpp: float) -> int | None:
    """The power of the objective with which `mpp` µm per pixel are scanned, in TRIDENT's bins; None where it is not known."""
    return next((power for finer_than, power in POWERS if mpp < finer_than), None) if mpp > 0 else None
