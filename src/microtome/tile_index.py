"""Tile rows: one Arrow file a slide while its shard is made, then one a shard, uncompressed, so that readers map it.

Places are level-0 pixels of a tile's top left corner; `offset_b` is that of the JPEG's first byte in the slide's tar. The index says in
its schema's metadata, under `slides`, as JSON, how each slide's tiles were read: `slide_row` and `READ_AS`.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atomic import atomic_path

TILE_SCHEMA = pa.schema(
    [
        ("x_px0", pa.int32()),
        ("y_px0", pa.int32()),
        ("offset_b", pa.int64()),
        ("size_b", pa.int32()),
        ("tissue_fraction", pa.float32()),
        ("mean", pa.float32()),
        ("sd", pa.float32()),
        ("sharpness", pa.float32()),
    ]
)
INDEX_SCHEMA = pa.schema([("slide_row", pa.uint32()), *TILE_SCHEMA])  # slide_row: row of the shard's table
SLIDES = b"slides"
READ_AS = ["slide", "mpp_requested", "mpp", "level_downsample", "reader", "reader_note"]  # as in the shard's table


class TileRows:
    """The rows of a slide's tiles, growing."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, *values: float) -> None:
        """Append a row: the values of `TILE_SCHEMA`."""
        self._rows.append(values)

    def write(self, path: Path) -> None:
        """Write the rows as an Arrow file."""
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(TILE_SCHEMA)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, TILE_SCHEMA, strict=True)]
        _write(path, pa.table(arrays, TILE_SCHEMA))


def write_index(path: Path, slides: Sequence[tuple[int, Mapping[str, Any], Path]]) -> None:
    """Join slides' tile rows into the shard's index; of each slide the number of its row in the shard's table, that row, its Arrow file."""
    tables = [_with_slide(number, read_rows(file)) for number, _, file in slides]
    read_as = [{"slide_row": number, **{name: row.get(name) for name in READ_AS}} for number, row, _ in slides]
    joined = pa.concat_tables([INDEX_SCHEMA.empty_table(), *tables])
    _write(path, joined.replace_schema_metadata({SLIDES: json.dumps(read_as)}))


def read_as(path: Path) -> list[dict[str, Any]]:
    """How the slides of an index were read, each with its `slide_row`; none where places are others' (`write_places`)."""
    found: list[dict[str, Any]] = json.loads((read_rows(path).schema.metadata or {}).get(SLIDES, b"[]"))
    return found


def write_places(path: Path, slides: Sequence[NDArray[np.int64]]) -> None:
    """An index of tiles that are not stored: the places [tiles, 2] of each slide's, and nothing else."""
    coords_px0 = np.concatenate([np.empty((0, 2), np.int64), *slides])
    known = {"slide_row": np.repeat(np.arange(len(slides)), [len(places) for places in slides])}
    known |= {"x_px0": coords_px0[:, 0], "y_px0": coords_px0[:, 1]}
    nothing = np.zeros(len(coords_px0))
    _write(path, pa.table([pa.array(known.get(field.name, nothing)).cast(field.type) for field in INDEX_SCHEMA], INDEX_SCHEMA))


def read_rows(path: Path) -> pa.Table:
    """The tile rows of a slide or of a shard, mapped."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _with_slide(number: int, rows: pa.Table) -> pa.Table:
    return rows.add_column(0, INDEX_SCHEMA.field("slide_row"), pa.repeat(pa.scalar(number, pa.uint32()), len(rows)))


def _write(path: Path, table: pa.Table) -> None:
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as file:
        file.write_table(table.combine_chunks())  # one record batch
    with atomic_path(path) as part:
        part.write_bytes(buffer.getbuffer())
