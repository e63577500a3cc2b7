"""The tiles of many slides in batches, in order, across slide borders: small slides do not make small batches.

Threads work a few batches ahead (libjpeg-turbo and torch run without Python's lock); memory does not grow with the slides.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from microtome.errors import UserError
from microtome.schedule_file import ScheduledTile
from microtome.slide_tiles import SlideTiles
from microtome.tile_files import TileFiles, decode_into


class Batch(NamedTuple):
    """What was made of some tiles; those of a slide in `failed` (number of slide -> reason) are not to be used."""

    values: NDArray[Any]  # [n, …]
    slides: NDArray[np.int64]  # [n], numbers of slides, ascending
    failed: dict[int, str]


def batches(slides: Sequence[SlideTiles], size: int, workers: int, finish: Callable[[NDArray[np.uint8]], NDArray[Any]]) -> Iterator[Batch]:
    """All tiles of `slides`, in order, in batches of `size` (the last may be smaller).

    Each of `workers` threads reads and decodes a batch and calls `finish` on it, [n, tile_px, tile_px, 3] RGB -> [n, …].
    """
    first = np.cumsum([0, *(len(tiles) for tiles in slides)])
    starts = deque(range(0, int(first[-1]), size))
    ahead: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        while starts or ahead:
            while starts and len(ahead) <= workers:
                positions = np.arange(starts[0], min(starts.popleft() + size, int(first[-1])))
                ahead.append(pool.submit(_batch, slides, first, positions, finish))
            yield ahead.popleft().result()


def _batch(
    slides: Sequence[SlideTiles],
    first: NDArray[np.int64],
    positions: NDArray[np.int64],
    finish: Callable[[NDArray[np.uint8]], NDArray[Any]],
) -> Batch:
    numbers = np.searchsorted(first, positions, side="right") - 1
    side = slides[numbers[0]].tile_px
    images, failed = np.zeros((len(positions), side, side, 3), np.uint8), dict[int, str]()
    with closing(TileFiles()) as files:
        for image, number, row in zip(images, numbers.tolist(), (positions - first[numbers]).tolist(), strict=True):
            if number in failed:
                continue
            slide = slides[number]
            tile = ScheduledTile(str(slide.tar), row, int(slide.offset_b[row]), int(slide.size_b[row]))
            try:
                decode_into(image, files.read(tile), tile)
            except UserError as error:
                failed[number] = str(error)
    return Batch(finish(images), numbers, failed)
