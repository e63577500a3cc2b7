"""Batches across slide borders: every tile once, in order, and no more of them at a time than there are workers."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from microtome.slide_tiles import SlideTiles, locate
from microtome.tile_batches import batches
from tests.tile_folder import slide_table, write_tiles

COUNTS = [1, 17, 2, 1, 30, 4, 9]


@pytest.fixture
def slides(tmp_path: Path) -> list[SlideTiles]:
    write_tiles(tmp_path, slide_table({"lung": COUNTS}, shards=1))
    return [locate(row, tmp_path) for row in pd.read_parquet(tmp_path / "0.parquet").itertuples()]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_tile_comes_once_in_order(slides: list[SlideTiles], workers: int) -> None:
    found = list(batches(slides, 8, workers, lambda images: images.astype(np.int64).sum((1, 2, 3))))
    assert [len(batch.values) for batch in found] == [8] * 8
    assert np.concatenate([batch.slides for batch in found]).tolist() == np.repeat(np.arange(len(COUNTS)), COUNTS).tolist()
    alone = [next(iter(batches([slide], 99, 1, lambda images: images.astype(np.int64).sum((1, 2, 3))))).values for slide in slides]
    assert np.concatenate([batch.values for batch in found]).tolist() == np.concatenate(alone).tolist()


def test_memory_does_not_grow_with_the_slides(slides: list[SlideTiles]) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Watched(np.ndarray[Any, Any]):
        __hash__ = object.__hash__

    def watch(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        nonlocal most
        watched = images.copy().view(Watched)
        alive.add(watched)
        most = max(most, len(alive))
        return watched

    for _ in batches(slides * 20, 8, 2, watch):
        pass
    assert most <= 2 + 3, "those of the workers, those waiting for their turn, and the one in hand"


def test_a_consumer_that_stops_leaves_nothing_open(slides: list[SlideTiles], tmp_path: Path) -> None:
    running = batches(slides, 4, 2, np.copy)
    next(running)
    running.close()
    held = [path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert not [path for path in held if path.suffix == ".tar" and tmp_path in path.parents]
