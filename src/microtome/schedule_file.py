"""A pseudo-epoch's schedule on disk: which tiles, in which order, and all that is needed to read one.

An Arrow IPC file that is mapped, not read. It has one record batch, and a row a tile, in training order, in 16 bytes:

    tar     dictionary<string, uint32>   the slide's tar file; the dictionary is the slide table, mapped like the rest
    tile    uint32                       row within the slide's rows of the tile index
    block   uint32                       first byte of the JPEG in the tar / 512
    size_b  uint32                       bytes of the JPEG

The schema's metadata (key `microtome`, JSON) holds `tile_px`, the side of every tile. A slide's id is the name of its tar.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microtome.atomic import atomic_path
from microtome.errors import UserError
from microtome.tile_tar import BLOCK_B

ROW = np.dtype([("slide", "<u4"), ("tile", "<u4"), ("block", "<u4"), ("size_b", "<u4")])


class ScheduledTile(NamedTuple):
    """Where the bytes of one tile are."""

    tar: str
    tile: int
    offset_b: int
    size_b: int

    def __str__(self) -> str:
        return f"tile {self.tile} of slide {Path(self.tar).stem} ({self.size_b} bytes at byte {self.offset_b} of {self.tar})"


class Schedule:
    """An opened schedule: `len()` tiles, each with its address. Opening it takes milliseconds and maps; nothing is copied.

    Raises:
        UserError: there is no such file, or it is no schedule.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{path}: no such schedule. `snakemake {path}` makes it.")
        try:
            batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
            tar, *numbers = (batch.column(name) for name in ("tar", "tile", "block", "size_b"))
            self.tile_px = int(json.loads(batch.schema.metadata[b"microtome"])["tile_px"])
        except (pa.ArrowInvalid, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{path}: expected a schedule written by the rule schedule, found {error!r}. Remove it and make it again."
            ) from None
        self._tars = tar.dictionary
        self._slide = tar.indices.to_numpy(zero_copy_only=True)
        self._tile, self._block, self._size_b = (column.to_numpy(zero_copy_only=True) for column in numbers)

    def __len__(self) -> int:
        return len(self._tile)

    def __getitem__(self, position: int) -> ScheduledTile:
        slide, tile, block, size_b = (int(column[position]) for column in (self._slide, self._tile, self._block, self._size_b))
        return ScheduledTile(self._tars[slide].as_py(), tile, block * BLOCK_B, size_b)


def write_schedule(path: Path, rows: npt.NDArray[Any], tars: list[str], tile_px: int) -> None:
    """Write `rows` (dtype `ROW`, in training order; `slide` is a position in `tars`) as the schedule `path`."""
    columns = {name: pa.array(np.ascontiguousarray(rows[name])) for name in ROW.names or ()}
    columns = {"tar": pa.DictionaryArray.from_arrays(columns.pop("slide"), pa.array(tars, pa.string())), **columns}
    batch = pa.record_batch(columns).replace_schema_metadata({b"microtome": json.dumps({"tile_px": tile_px})})
    with atomic_path(path) as part, pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
