"""The loader that follows a schedule: the tiles of each training step, decoded, for one of several processes.

Step s (from 0 within the pseudo-epoch) takes the positions s * global_batch ... (s + 1) * global_batch - 1 of the schedule; process
`rank` of `world` takes the rank-th of `world` equal stretches of them, cut into micro-batches. So which tile stands at which position
depends neither on the number of processes nor on workers, and any step can be the first one. Tiles that fill no whole step are left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from microtome.errors import UserError
from microtome.schedule_file import Schedule
from microtome.tile_files import TileFiles, decode_into


class TileBatch(NamedTuple):
    """A micro-batch: part of what one process does of one step.

    `images` is uint8 [n, tile_px, tile_px, 3], RGB; `positions` is int64 [n], places in the schedule (its seeds for augmentation).
    """

    step: int
    last_of_step: bool
    positions: torch.Tensor
    images: torch.Tensor


def steps_in(schedule: Path, global_batch: int) -> int:
    """The number of whole steps of a schedule. Raises UserError where there is not even one."""
    steps, tiles = len(Schedule(schedule)) // global_batch, len(Schedule(schedule))
    if steps == 0:
        raise UserError(f"{schedule}: {tiles} tiles are fewer than one global batch of {global_batch}. Raise schedule.tiles.")
    return steps


def tile_batches(
    schedule: Path, global_batch: int, rank: int, world: int, first_step: int, micro_batch: int, workers: int
) -> Iterator[TileBatch]:
    """Yield what process `rank` of `world` does from `first_step` to the end of the schedule, in order, ceil(share / micro_batch) a step.

    The micro-batches of a step differ by at most one tile: weigh each by n * world / global_batch. Batches are decoded ahead by `workers`
    processes (0: in this one) and pinned where there is a GPU. The state of torch's global generator is left alone.

    Raises:
        UserError: `global_batch` is no multiple of `world`; a tile cannot be read (names tile, slide, file and offset).
    """
    if global_batch % world:
        raise UserError(f"The global batch of {global_batch} cannot be shared equally by {world} processes. Choose a multiple of {world}.")
    batches = _RankBatches(schedule, global_batch // world, micro_batch, global_batch, rank)
    order = range(first_step * batches.per_step, steps_in(schedule, global_batch) * batches.per_step)
    loader = DataLoader(
        batches,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class _RankBatches(Dataset["TileBatch | UserError"]):
    """The micro-batches of one process, numbered from the schedule's start. It is opened by whoever reads first: a worker."""

    def __init__(self, schedule: Path, share: int, micro_batch: int, global_batch: int, rank: int) -> None:
        self.per_step = -(-share // micro_batch)
        self._path, self._share, self._global_batch, self._rank = schedule, share, global_batch, rank
        self._schedule: Schedule | None = None
        self._files = TileFiles()

    def positions(self, number: int) -> range:
        """The positions of micro-batch `number`."""
        step, part = divmod(number, self.per_step)
        first = step * self._global_batch + self._rank * self._share
        return range(first + self._share * part // self.per_step, first + self._share * (part + 1) // self.per_step)

    def __getitem__(self, number: int) -> TileBatch | UserError:
        # A UserError is returned, not raised: from a worker it would arrive wrapped in the worker's traceback.
        self._schedule = self._schedule or Schedule(self._path)
        positions = self.positions(number)
        images = torch.empty((len(positions), self._schedule.tile_px, self._schedule.tile_px, 3), dtype=torch.uint8)
        try:
            self._decode(images, positions, self._schedule)
        except UserError as error:
            return error
        step, part = divmod(number, self.per_step)
        return TileBatch(step, part == self.per_step - 1, torch.from_numpy(np.asarray(positions)), images)

    def _decode(self, images: torch.Tensor, positions: range, schedule: Schedule) -> None:
        for image, position in zip(images.numpy(), positions, strict=True):
            tile = schedule[position]
            decode_into(image, self._files.read(tile), tile)
