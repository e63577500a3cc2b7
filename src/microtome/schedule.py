"""The ordered tiles of one pseudo-epoch, from the quotas and the tile indexes alone: no other pseudo-epoch's file is needed.

Which tiles. A slide's tiles have one seeded order for ever; its visits are consecutive stretches of it, which begin again at its end. So no
tile is visited a second time before every tile of its slide was once. With `schedule.block` b > 1 it is an order of blocks of b
consecutive tiles of the tar.

Which order. A global shuffle of the tiles. With b > 1: of the stretches of consecutive tiles, and then of the tiles within windows of
`WINDOW_BLOCKS` stretches: what lies together in a tar is read at about the same time, and a batch still is a mixture of slides.
"""

import hashlib
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from microtome.command_line import run
from microtome.errors import UserError
from microtome.progress import progress_bar
from microtome.quota import ORDER, VISITS, Integers
from microtome.schedule_file import ROW, write_schedule
from microtome.settings import ScheduleSettings
from microtome.tile_index import read_rows
from microtome.tile_tar import BLOCK_B

Rows = npt.NDArray[Any]  # dtype ROW
WINDOW_BLOCKS = 16
REMEDY = "The tiles are not those the quotas were planned with: raise schedule.version to plan anew."


class Visit(NamedTuple):
    """What a slide gives to this pseudo-epoch: `tiles` visits after the first `before`; its tiles stand at `first_row` in the index."""

    slide: str
    shard: str
    tiles: int
    before: int
    slide_tiles: int
    first_row: int


def visited_tiles(visit: Visit, block: int, seed: int) -> Integers:
    """The tiles visited, in the slide's own order: rows (0 … slide_tiles - 1) of the slide."""
    number = int.from_bytes(hashlib.sha256(visit.slide.encode()).digest()[:8])
    order = np.random.default_rng([seed, VISITS, number]).permutation(-(-visit.slide_tiles // block))
    if block > 1:
        order = (order[:, None] * block + np.arange(block)).ravel()
        order = order[order < visit.slide_tiles]  # the last block may be a short one
    return order[np.arange(visit.before, visit.before + visit.tiles) % visit.slide_tiles]


def shuffle(rows: Rows, block: int, rng: np.random.Generator) -> Rows:
    """The rows (dtype `ROW`, a slide's together, in visiting order) in training order; `rows` itself is shuffled where `block` is 1."""
    if block == 1:
        rng.shuffle(rows)
        return rows
    follows = (rows["slide"][1:] == rows["slide"][:-1]) & (rows["tile"][1:] == rows["tile"][:-1] + 1)
    starts = np.append(0, np.flatnonzero(~follows) + 1)
    lengths = np.diff(np.append(starts, len(rows)))
    order, shuffled, end = rng.permutation(len(starts)), np.empty_like(rows), 0
    for first in range(0, len(order), WINDOW_BLOCKS):
        window = order[first : first + WINDOW_BLOCKS]
        source = np.concatenate([np.arange(starts[stretch], starts[stretch] + lengths[stretch]) for stretch in window])
        rng.shuffle(source)
        shuffled[end : end + len(source)] = rows[source]
        end += len(source)
    return shuffled


def read_quota(quota: Path, pseudo_epoch: int) -> pd.DataFrame:
    """The rows of one pseudo-epoch. Raises UserError where it was not planned."""
    if not quota.is_file():
        raise UserError(f"{quota}: no such file. `snakemake {quota}` plans the pseudo-epochs.")
    rows = pd.read_parquet(quota, filters=[("pseudo_epoch", "==", pseudo_epoch)])
    if rows.empty:
        planned = pd.read_parquet(quota, columns=["pseudo_epoch"])["pseudo_epoch"].max()
        raise UserError(f"{quota}: pseudo-epoch {pseudo_epoch} was not planned, expected 1 to {planned}. Raise schedule.pseudo_epochs.")
    return rows


def visits_of(slides: pd.DataFrame, tiles: Path) -> list[Visit]:
    """The quota's rows, each with where its slide's tiles begin in the shard's index now: that moves when a slide joins the shard.

    Raises:
        UserError: a shard's table is not there, or a slide has other tiles than when the quotas were planned.
    """
    tables = [_expect(tiles / f"{shard}.parquet") for shard in slides["shard"].unique()]
    now = pd.concat([pd.read_parquet(table, columns=["slide", "tiles", "first_row"]) for table in tables])
    slides = slides.merge(now.rename(columns={"tiles": "tiles_now"}), on="slide", how="left", validate="one_to_one")
    slides = slides.fillna({"tiles_now": 0, "first_row": 0}).astype({"tiles_now": "int64", "first_row": "int64"})
    changed = slides[slides["slide_tiles"] != slides["tiles_now"]]
    if len(changed):
        slide, expected, found = changed[["slide", "slide_tiles", "tiles_now"]].iloc[0]
        raise UserError(f"{tiles}: slide {slide}: expected {expected} tiles, found {found} ({len(changed)} such slides). {REMEDY}")
    return [Visit(*values) for values in zip(*(slides[field].tolist() for field in Visit._fields), strict=True)]


def _expect(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file. {REMEDY}")
    return path


def draw(visits: list[Visit], tiles: Path, settings: ScheduleSettings) -> Rows:
    """The tiles that are visited, slide after slide: dtype `ROW`, `slide` is a position in `visits`."""
    rows: Rows = np.empty(sum(visit.tiles for visit in visits), ROW)
    end = 0
    with progress_bar(len(rows), "schedule", "tile") as bar:
        for shard, of_shard in itertools.groupby(enumerate(visits), lambda numbered: numbered[1].shard):
            index = read_rows(_expect(tiles / f"{shard}.arrow"))
            offset_b, size_b = index.column("offset_b"), index.column("size_b")
            for number, visit in of_shard:
                mine, end = rows[end : end + visit.tiles], end + visit.tiles
                tile = visited_tiles(visit, settings.schedule.block, settings.seed)
                mine["slide"], mine["tile"] = number, tile
                mine["block"] = offset_b.slice(visit.first_row, visit.slide_tiles).to_numpy()[tile] // BLOCK_B
                mine["size_b"] = size_b.slice(visit.first_row, visit.slide_tiles).to_numpy()[tile]
                bar.update(visit.tiles)
    return rows


def schedule(quota: Path, tiles: Path, pseudo_epoch: int, schedule: Path, settings: ScheduleSettings) -> None:
    """Write the schedule of `pseudo_epoch` (from 1); `tiles` is the folder of the tars and their indexes."""
    slides = read_quota(quota, pseudo_epoch)
    visits = visits_of(slides, tiles)
    rows = draw(visits, tiles, settings)
    rows = shuffle(rows, settings.schedule.block, np.random.default_rng([settings.seed, ORDER, pseudo_epoch]))
    write_schedule(schedule, rows, [str(tiles / visit.shard / f"{visit.slide}.tar") for visit in visits], int(slides["tile_px"].iloc[0]))


if __name__ == "__main__":
    run(schedule)
