"""The tiles of many slides in batches, in order, across slide borders: small slides do not make small batches.

Threads work a few batches ahead (libjpeg-turbo and torch run without Python's lock); memory does not grow with the slides.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from microtome.errors import UserError
from microtome.schedule_file import ScheduledTile
from microtome.slide_tiles import SlideTiles
from microtome.slides import SlideError
from microtome.tile_files import TileFiles, decode_into


class Batch(NamedTuple):
    """What was made of some tiles; those of a slide in `failed` (number of slide -> reason) are not to be used."""

    values: NDArray[Any]  # [n, …]
    slides: NDArray[np.int64]  # [n], numbers of slides, ascending
    failed: dict[int, str]


class TileReader(Protocol):
    """Gives the pixels of tiles; each thread has its own."""

    def read_into(self, image: NDArray[np.uint8], tiles: SlideTiles, row: int) -> None:
        """Read tile `row` of a slide into `image` [tile_px, tile_px, 3], RGB.

        Raises:
            UserError, SlideError: it cannot be read.
        """

    def close(self) -> None:
        """Close what is open."""


class StoredTiles:
    """Reads tiles from the slides' tars."""

    def __init__(self) -> None:
        self._files = TileFiles()
        self.close = self._files.close

    def read_into(self, image: NDArray[np.uint8], tiles: SlideTiles, row: int) -> None:
        """Read and decode a tile."""
        tile = ScheduledTile(str(tiles.tar), row, int(tiles.offset_b[row]), int(tiles.size_b[row]))
        decode_into(image, self._files.read(tile), tile)


def batches(
    slides: Sequence[SlideTiles],
    size: int,
    workers: int,
    finish: Callable[[NDArray[np.uint8]], NDArray[Any]],
    reader: Callable[[], TileReader] = StoredTiles,
) -> Iterator[Batch]:
    """All tiles of `slides`, in order, in batches of `size` (the last may be smaller).

    Each of `workers` threads reads and decodes a batch, by a `reader` of its own, and calls `finish` on it,
    [n, tile_px, tile_px, 3] RGB -> [n, …], which must not keep them: the next batch is decoded into the same memory. All slides have
    the same tile_px.
    """
    first = np.cumsum([0, *(len(tiles) for tiles in slides)])
    starts = deque(range(0, int(first[-1]), size))
    ahead: deque[Future[Batch]] = deque()
    of_thread, readers, side = threading.local(), list[TileReader](), slides[0].tile_px if slides else 0

    def start() -> None:
        of_thread.reader = reader()
        of_thread.images = np.zeros((size, side, side, 3), np.uint8)
        readers.append(of_thread.reader)

    def made(positions: NDArray[np.int64]) -> Batch:
        return _batch(slides, first, positions, finish, of_thread.reader, of_thread.images[: len(positions)])

    try:
        with ThreadPoolExecutor(workers, initializer=start) as pool:
            while starts or ahead:
                while starts and len(ahead) <= workers:
                    ahead.append(pool.submit(made, np.arange(starts[0], min(starts.popleft() + size, int(first[-1])))))
                yield ahead.popleft().result()
    finally:
        for one in readers:
            one.close()


def _batch(
    slides: Sequence[SlideTiles],
    first: NDArray[np.int64],
    positions: NDArray[np.int64],
    finish: Callable[[NDArray[np.uint8]], NDArray[Any]],
    reader: TileReader,
    images: NDArray[np.uint8],
) -> Batch:
    numbers, failed = np.searchsorted(first, positions, side="right") - 1, dict[int, str]()
    for image, number, row in zip(images, numbers.tolist(), (positions - first[numbers]).tolist(), strict=True):
        if number not in failed:
            try:
                reader.read_into(image, slides[number], row)
            except (UserError, SlideError) as error:
                failed[number] = str(error)
    return Batch(finish(images), numbers, failed)
