"""The tiles of many slides as decoded batches, in order, across slide borders: small slides do not make small batches.

Threads read and decode a few batches ahead (libjpeg-turbo works without Python's lock); memory does not grow with the slides.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microtome.errors import UserError
from microtome.schedule_file import ScheduledTile
from microtome.tile_files import TileFiles, decode_into


@dataclass(frozen=True)
class SlideTiles:
    """Where the tiles of one slide are: `coords_px0` [tiles, 2] int64, and the first byte and the bytes of each JPEG in `tar`."""

    slide: str
    tar: Path
    tile_px: int
    coords_px0: NDArray[np.int64]
    offset_b: NDArray[np.int64]
    size_b: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.size_b)


class Batch(NamedTuple):
    """Decoded tiles; those of a slide in `failed` (number of slide -> reason) are not to be used."""

    images: NDArray[np.uint8]  # [n, tile_px, tile_px, 3], RGB
    slides: NDArray[np.int64]  # [n], numbers of slides, ascending
    failed: dict[int, str]


def batches(slides: Sequence[SlideTiles], size: int, workers: int) -> Iterator[Batch]:
    """All tiles of `slides`, in order, in batches of `size` (the last may be smaller), decoded by `workers` threads."""
    first = np.cumsum([0, *(len(tiles) for tiles in slides)])
    starts = deque(range(0, int(first[-1]), size))
    ahead: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        while starts or ahead:
            while starts and len(ahead) <= workers:
                start = starts.popleft()
                ahead.append(pool.submit(_decode, slides, first, start, min(start + size, int(first[-1]))))
            yield ahead.popleft().result()


def _decode(slides: Sequence[SlideTiles], first: NDArray[np.int64], start: int, stop: int) -> Batch:
    positions = np.arange(start, stop)
    numbers = np.searchsorted(first, positions, side="right") - 1
    side = slides[numbers[0]].tile_px
    batch = Batch(np.zeros((stop - start, side, side, 3), np.uint8), numbers, {})
    with closing(TileFiles()) as files:
        for image, number, row in zip(batch.images, numbers.tolist(), (positions - first[numbers]).tolist(), strict=True):
            if number in batch.failed:
                continue
            slide = slides[number]
            tile = ScheduledTile(str(slide.tar), row, int(slide.offset_b[row]), int(slide.size_b[row]))
            try:
                decode_into(image, files.read(tile), tile)
            except UserError as error:
                batch.failed[number] = str(error)
    return batch
