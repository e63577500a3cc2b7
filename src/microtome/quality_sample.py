"""The sample of tiles on which every encoder is judged without labels: drawn once from the catalog, and frozen.

Organs are balanced: each gives the same number of tiles, as far as its slides go, and each slide of an organ as many as another, at most
`tiles_per_slide`. What an organ cannot give is shared among the others. All slides that have tiles take part, whether or not they are of a
task or pretrained on. Places are level-0 pixels of a tile's upper-left corner.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from microtome.atomic import atomic_path
from microtome.command_line import run
from microtome.errors import UserError
from microtome.progress import progress
from microtome.quota import Integers, share_out
from microtome.settings import QualitySampleSettings
from microtome.slide_tiles import locate

SLIDES, TILES = 10, 11  # streams of random numbers: the second number of a seed
COLUMNS = ["slide", "organ", "patient", "shard", "path", "tile_px", "tile_px0", "organ_slides"]


def sampled_slides(catalog: pd.DataFrame, settings: QualitySampleSettings) -> pd.DataFrame:
    """The slides that give tiles, sorted by shard and slide: the catalog's columns, `sampled` (tiles, int64) and `organ_slides`, the
    slides with tiles that its organ has in the catalog.

    Raises:
        UserError: the slides cannot give two tiles.
    """
    usable = catalog[catalog["status"].eq("ok") & catalog["tiles"].gt(0)].sort_values(["shard", "slide"], ignore_index=True)
    caps = np.minimum(usable["tiles"].to_numpy(np.int64), settings.quality.tiles_per_slide)
    if caps.sum() < 2:
        raise UserError(f"The sample of tiles needs at least 2, found {caps.sum()} in {len(usable)} slides with tiles. See the catalog.")
    total = min(settings.quality.tiles, int(caps.sum()))
    organs = pd.factorize(usable["organ"], sort=True)[0].astype(np.int64)
    rng = np.random.default_rng([settings.seed, SLIDES])
    given = share_out(total, organs, usable["tiles"].to_numpy(np.int64), caps, 0.0, rng)  # alpha 0: organs alike
    slides_of_organ = usable.groupby("organ")["slide"].transform("size")
    return usable.assign(sampled=given, organ_slides=slides_of_organ)[given > 0]


def sampled_rows(slide: str, tiles: int, sampled: int, seed: int) -> Integers:
    """Which of a slide's `tiles`: `sampled` rows of its tile index, ascending. They depend on no other slide."""
    number = int.from_bytes(hashlib.sha256(slide.encode()).digest()[:8])
    return np.sort(np.random.default_rng([seed, TILES, number]).choice(tiles, sampled, replace=False))


def tiles_of(row: Any, tiles: Path, seed: int) -> pd.DataFrame:
    """The sampled tiles of one slide, `row` of `sampled_slides`: `COLUMNS`, tile (row in the slide's tile index), place and bytes."""
    where, chosen = locate(row, tiles), sampled_rows(row.slide, int(row.tiles), int(row.sampled), seed)
    x_px0, y_px0 = where.coords_px0[chosen].T
    places = {"tile": chosen, "x_px0": x_px0, "y_px0": y_px0, "offset_b": where.offset_b[chosen], "size_b": where.size_b[chosen]}
    return pd.DataFrame({**{column: getattr(row, column) for column in COLUMNS}, **places})


def quality_sample(catalog: Path, tiles: Path, sample: Path, settings: QualitySampleSettings) -> None:
    """Draw the sample: a row a tile, a slide's together. `tiles` is the folder of the tars and their indexes."""
    slides = sampled_slides(pd.read_parquet(catalog), settings)
    rows = progress(slides.itertuples(), len(slides), "sample of tiles", "slide")
    drawn = pd.concat([tiles_of(row, tiles, settings.seed) for row in rows], ignore_index=True)
    with atomic_path(sample) as part:
        drawn.to_parquet(part, index=False)
    organs = drawn["organ"].value_counts()
    print(f"{len(drawn)} tiles of {len(slides)} slides, {organs.min()} to {organs.max()} of each of {len(organs)} organs")


if __name__ == "__main__":
    run(quality_sample)
