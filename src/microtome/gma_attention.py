"""Where the aggregators looked: the attention of each tile of a slide, averaged over the runs that the slide validated.

A run's attention on a slide is positive and sums to 1 over the slide's tiles, so the mean does, too. Training slides have no say: what a
run was fitted to is no evidence of what it would look at.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from microtome.atomic import atomic_path

SCHEMA = pa.schema([("slide", pa.string()), ("tile", pa.int32()), ("attention", pa.float32()), ("runs", pa.int16())])
# Bytes of floats are sorted by their place, because exponents compress; of tiles, differences are stored.
ENCODINGS = {"attention": "BYTE_STREAM_SPLIT", "tile": "DELTA_BINARY_PACKED"}


class MeanAttention:
    """Sums over runs, 8 bytes a tile of the task: 122 MB for 2,000 slides of 7,600 tiles.

    Args:
        slides: their ids. first: [slides + 1]; slide s has the tiles first[s] to first[s + 1].
    """

    def __init__(self, slides: Sequence[str], first: Sequence[int]) -> None:
        self.slides, self.first = slides, first
        self.total = np.zeros(first[-1])
        self.runs = np.zeros(len(slides), np.int16)

    def add(self, validated: NDArray[np.int64], attention: NDArray[np.float32]) -> None:
        """Take in one run: the slides it `validated`, by number, and the attention of their tiles, one slide after another."""
        start = 0
        for slide in validated:
            tiles = self.total[self.first[slide] : self.first[slide + 1]]  # a view
            tiles += attention[start : start + len(tiles)]
            start += len(tiles)
        self.runs[validated] += 1

    def write(self, path: Path) -> None:
        """Write slide, tile (its row in the slide's features, which is its place in the tile index), attention (float32, of sum 1 over the
        slide), runs (how many it is the mean of): a row group a slide, without the slides that no split validates."""
        options: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["slide", "runs"], "column_encoding": ENCODINGS}
        with atomic_path(path) as part, pq.ParquetWriter(part, SCHEMA, **options) as file:
            for slide in np.flatnonzero(self.runs).tolist():
                mean = self.total[self.first[slide] : self.first[slide + 1]] / self.runs[slide]
                tiles = len(mean)
                columns = [[self.slides[slide]] * tiles, np.arange(tiles), mean, np.full(tiles, self.runs[slide])]
                arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
                file.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
