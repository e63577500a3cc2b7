"""A folder of tiles as the rule `tiles` writes it, and its catalog: small, drawn, for tests of what reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import simplejpeg

from microtome.tile_index import INDEX_SCHEMA
from microtome.tile_tar import TileTar, tile_name


def slide_table(organs: dict[str, list[int]], shards: int = 3, **columns: Any) -> pd.DataFrame:
    """A catalog: `organs` gives the tile counts of each organ's slides; other columns may be set."""
    counts = [(organ, tiles) for organ, all_tiles in organs.items() for tiles in all_tiles]
    slides = [f"slide{number:03d}" for number in range(len(counts))]
    table = pd.DataFrame(counts, columns=["organ", "tiles"]).assign(slide=slides, patient=[f"p{slide}" for slide in slides], case=None)
    table = table.assign(pretrain=True, status="ok", shard=[f"{number % shards}" for number in range(len(counts))])
    table = table.assign(path="", tile_px=32, tile_px0=32.0)
    return table.assign(**columns)


def write_catalog(path: Path, slides: pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    slides.to_parquet(path, index=False)
    return path


def write_tiles(folder: Path, slides: pd.DataFrame) -> None:
    """Tars, indexes and tables of all shards. A tile is noise of 4 px of its own, so that no two are alike."""
    for shard, of_shard in slides.sort_values("slide").groupby("shard"):
        rows: list[dict[str, float]] = []
        first_rows = []
        for slide_row, slide in enumerate(of_shard.itertuples()):
            first_rows.append(len(rows))
            rows += _write_slide(folder / str(shard) / f"{slide.slide}.tar", slide_row, slide)
        columns = {field.name: pa.array([row.get(field.name, 0) for row in rows], field.type) for field in INDEX_SCHEMA}
        with pa.ipc.new_file(str(folder / f"{shard}.arrow"), INDEX_SCHEMA) as writer:
            writer.write_table(pa.table(columns))
        of_shard.assign(first_row=first_rows).to_parquet(folder / f"{shard}.parquet", index=False)


def _write_slide(path: Path, slide_row: int, slide: Any) -> list[dict[str, float]]:
    rows = []
    with TileTar(path) as tar:
        for tile in range(slide.tiles):
            data = tile_jpeg(slide.slide, tile, slide.tile_px)
            offset_b = tar.add(tile_name(slide.slide, tile * slide.tile_px, 0), data)
            rows.append({"slide_row": slide_row, "x_px0": tile * slide.tile_px, "offset_b": offset_b, "size_b": len(data)})
    return rows


def tile_jpeg(slide: str, tile: int, tile_px: int) -> bytes:
    rng = np.random.default_rng([*slide.encode(), tile])
    noise = rng.integers(0, 256, (tile_px // 4, tile_px // 4, 3), np.uint8)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(noise.repeat(4, 0).repeat(4, 1)), 90)
