"""The loader that follows a schedule: the tiles of each training step, decoded, for one of several processes.

Step s (from 0 within the pseudo-epoch) takes the positions s * global_batch ... (s + 1) * global_batch - 1 of the schedule; process
`rank` of `world` takes the rank-th of `world` equal stretches of them, cut into micro-batches. So which tile stands at which position
depends neither on the number of processes nor on workers, and any step can be the first one. Tiles that fill no whole step are left out.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from microtome.errors import UserError
from microtome.orphans import heed_parent_alone, stops_held
from microtome.schedule_file import Schedule
from microtome.tile_files import TileFiles, decode_into

STAND_INS = 8


class TileBatch(NamedTuple):
    """A micro-batch: part of what one process does of one step.

    `images` is uint8 [n, tile_px, tile_px, 3], RGB; `positions` is int64 [n], places in the schedule (seeds for augmentation).
    `replaced` says what could not be read, where a stand-in is allowed.
    """

    step: int
    last_of_step: bool
    positions: torch.Tensor
    images: torch.Tensor
    replaced: list[str]


def steps_in(schedule: Path, global_batch: int) -> int:
    """The number of whole steps of a schedule. Raises UserError where there is not even one."""
    tiles = len(Schedule(schedule))
    if tiles < global_batch:
        raise UserError(f"{schedule}: {tiles} tiles are fewer than one global batch of {global_batch}. Raise schedule.tiles.")
    return tiles // global_batch


def tile_batches(
    schedule: Path, global_batch: int, rank: int, world: int, first_step: int, micro_batch: int, workers: int, max_replaced: int = 0
) -> Iterator[TileBatch]:
    """Yield what process `rank` of `world` does from `first_step` to the end of the schedule, in order, ceil(share / micro_batch) a step.

    The micro-batches of a step differ by at most one tile: weigh each by n * world / global_batch. Batches are decoded ahead by `workers`
    processes (0: in this one) and pinned where there is a GPU. The state of torch's global generator is left alone.

    A tile that cannot be read ends it, unless `max_replaced` > 0: then so many, in this process, are replaced and logged. The stand-in is
    the tile half a schedule further on, or the first of `STAND_INS` from there that can be read: the position alone decides.

    Raises:
        UserError: `global_batch` is no multiple of `world`; a tile cannot be read (names tile, slide, file and offset),
            or more than `max_replaced`, or none of a tile's stand-ins.
    """
    if global_batch % world:
        raise UserError(f"The global batch of {global_batch} cannot be shared equally by {world} processes. Choose a multiple of {world}.")
    batches = _RankBatches(schedule, global_batch // world, micro_batch, global_batch, rank, max_replaced > 0)
    order = range(first_step * batches.per_step, steps_in(schedule, global_batch) * batches.per_step)
    loader = DataLoader(
        batches,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
        worker_init_fn=_begin_worker,
    )
    with stops_held():
        read = iter(loader)
    replaced = 0
    for batch in read:
        if isinstance(batch, UserError):
            raise batch
        for number, tile in enumerate(batch.replaced, replaced + 1):
            print(f"Replaced, {number} of at most {max_replaced}: {tile}", file=sys.stderr)
        replaced += len(batch.replaced)
        if replaced > max_replaced:
            raise UserError(f"{replaced} tiles could not be read, at most {max_replaced} may be replaced. The last: {batch.replaced[-1]}")
        yield batch


def _begin_worker(_: int) -> None:
    """A signal to all processes is the trainer's: it goes on to the end of its step and saves, and needs its workers for that."""
    heed_parent_alone()


class _RankBatches(Dataset["TileBatch | UserError"]):
    """The micro-batches of one process, numbered from the schedule's start. It is opened by whoever reads first: a worker."""

    def __init__(self, schedule: Path, share: int, micro_batch: int, global_batch: int, rank: int, replace: bool) -> None:
        self.per_step = -(-share // micro_batch)
        self._path, self._share, self._global_batch, self._rank, self._replace = schedule, share, global_batch, rank, replace
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
        images = _unset_images(len(positions), self._schedule.tile_px)
        try:
            replaced = self._read(images.numpy(), positions, self._schedule)
        except UserError as error:
            return error
        step, part = divmod(number, self.per_step)
        return TileBatch(step, part == self.per_step - 1, torch.from_numpy(np.asarray(positions)), images, replaced)

    def _read(self, images: npt.NDArray[np.uint8], positions: range, schedule: Schedule) -> list[str]:
        for position in positions:
            self._files.expect(schedule[position])
        errors = [self._read_one(image, position, schedule) for image, position in zip(images, positions, strict=True)]
        return [str(error) for error in errors if error]

    def _read_one(self, image: npt.NDArray[np.uint8], position: int, schedule: Schedule) -> UserError | None:
        """Decode a tile, or a stand-in and say why."""
        first = position + len(schedule) // 2
        stand_ins = range(first, first + STAND_INS) if self._replace else ()
        why: UserError | None = None
        for candidate in (position, *stand_ins):
            tile = schedule[candidate % len(schedule)]
            try:
                decode_into(image, self._files.read(tile), tile)
                return why
            except UserError as error:
                why = why or error
        assert why is not None
        raise why


def _unset_images(count: int, tile_px: int) -> torch.Tensor:
    """uint8 [count, tile_px, tile_px, 3]. A worker decodes right into memory that the training process sees: nothing is copied or stays."""
    if get_worker_info() is None:
        return torch.empty((count, tile_px, tile_px, 3), dtype=torch.uint8)
    shared = torch.UntypedStorage._new_shared(count * tile_px * tile_px * 3)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(shared).view(count, tile_px, tile_px, 3)
