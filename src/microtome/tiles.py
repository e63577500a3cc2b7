"""The rule `tiles`: the tissue tiles of each slide of a shard, as a tar of JPEG files a slide and an index of places in them.

Places are level-0 pixels of a tile's top left corner. A tile covers a whole number of pixels of the plane it is cut from, and is
area-averaged to `tile_px`: the effective µm/px stands in the table beside the one that was asked for, and so does the farthest that a
tile was shifted to begin at a whole pixel.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from microtome.atomic import sweep_parts
from microtome.command_line import run
from microtome.digests import short_digest
from microtome.grid import TileGrid, tile_grid
from microtome.jpeg_tiles import UnreadableTile
from microtome.ledger import Row, SlideJob, attempt_all, digest, read_sidecar, refuse_failures, room_needed, source_of
from microtome.masks import rasterise, read_geojson
from microtome.replaced import is_replaced, why
from microtome.retries import retries
from microtome.settings import TilesSettings
from microtome.slides import SlideError, open_slide
from microtome.tile_index import TileRows, write_index
from microtome.tile_source import UNMEASURED, CutTiles, Place, TileSource, openslide_plane, tile_source
from microtome.tile_tar import TileTar, tile_name
from microtome.tissue import slides_of_shard, write_table
from microtome.tissue_mask import tile_fraction

SCHEMA = pa.schema(
    [
        ("slide", pa.string()),
        ("status", pa.string()),  # ok, empty, failed
        ("reason", pa.string()),
        ("tiles", pa.int64()),
        ("dropped", pa.int64()),  # tiles left out as blurred or blank
        ("sparse", pa.int64()),  # tiles with tissue, but less than min_tissue_fraction: left out
        ("bytes", pa.int64()),  # of the tar
        ("reader", pa.string()),  # openslide, jpeg, copy
        ("reader_note", pa.string()),  # why not the fast path
        ("mpp_requested", pa.float64()),
        ("mpp", pa.float64()),  # of the tiles
        ("first_row", pa.int64()),  # of the slide in the shard's index
        ("tile_px", pa.int32()),
        ("tile_px0", pa.float64()),
        ("shift_px0", pa.float64()),
        ("level_downsample", pa.float64()),  # of the level that was read: 1 is level 0
        ("rows_digest", pa.string()),  # of the tile rows and the slide's bytes in number: what is made from these tiles carries it on
    ]
)
ANY = 1e-9  # the least fraction that is tissue at all
SUFFIXES = (".tar", ".arrow")


def make_tiles(
    slide: str, path: Path, mpp: float, subpixels: int, mask_file: Path, stored: bool, folder: Path, settings: TilesSettings
) -> Row:
    """Write a slide's tar and tile rows; returns its row of `SCHEMA`. `subpixels` is the mask's resolution: pixels along a tile's side.

    Of a slide that is not `stored` there is no tar: its tile rows are places alone (size 0), and only limits of quality read its pixels.

    Raises:
        SlideError: the slide, or a place on it, cannot be read.
    """
    with open_slide(path) as opened, path.open("rb") as file:
        places = tile_grid(*opened.level_sizes_px[0], mpp, settings.grid)
        fraction = tissue_fraction(mask_file, places, subpixels)
        rows, columns = np.nonzero(fraction >= max(settings.tiles.min_tissue_fraction, ANY))
        wanted = list(zip(rows.tolist(), columns.tolist(), strict=True))
        sparse = int(np.count_nonzero(fraction >= ANY)) - len(wanted)
        source, note = tile_source(opened, file.fileno(), places, wanted, settings)
        write = _store if stored else _note_places
        try:
            made, size_b = write(slide, source, wanted, fraction, folder, settings)
        except UnreadableTile as error:
            if not error.spared_by(opened):
                raise
            source, note = CutTiles(*openslide_plane(opened, places, settings.grid.tile_px), settings), str(error)
            made, size_b = write(slide, source, wanted, fraction, folder, settings)
    row: Row = {"tiles": len(made), "dropped": len(wanted) - len(made), "sparse": sparse, "bytes": size_b}
    row |= {"reader": source.reader, "reader_note": note}
    row |= {"mpp_requested": settings.grid.mpp, "mpp": source.cut.side_px * source.plane.downsample * mpp / settings.grid.tile_px}
    row |= {"tile_px": settings.grid.tile_px, "tile_px0": places.tile_px0, "shift_px0": source.cut.shift_px0}
    row |= {"level_downsample": source.plane.level_downsample, "rows_digest": _rows_digest(folder / f"{slide}.arrow", path)}
    if not len(made):
        row |= {"status": "empty", "reason": _why_empty(len(wanted))}
    return row


def _rows_digest(rows: Path, slide: Path) -> str:
    """Of tiles that are not stored the rows may be the same for another slide: its size is in it, too."""
    return short_digest(rows.read_bytes() + str(slide.stat().st_size).encode())


def _why_empty(dropped: int) -> str:
    return f"all {dropped} tiles are blurred or blank" if dropped else "no tile has enough tissue"


def tissue_fraction(mask_file: Path, places: TileGrid, subpixels: int) -> NDArray[np.float32]:
    """[rows, columns]: the part of each cell's `subpixels` x `subpixels` places that the mask covers."""
    subpixel_px0 = places.cell_px0[0] / subpixels, places.cell_px0[1] / subpixels
    mask = rasterise(read_geojson(mask_file), subpixel_px0, places.rows * subpixels, places.columns * subpixels)
    return tile_fraction(mask, subpixels)


def _store(
    slide: str, source: TileSource, wanted: Sequence[Place], fraction: NDArray[np.float32], folder: Path, _: TilesSettings
) -> tuple[TileRows, int]:
    """Store the wanted tiles, row by row of the grid; returns their rows and the tar's bytes."""
    rows, fractions = TileRows(), fraction.tolist()
    x_px0, y_px0 = _origins_px0(source)
    with TileTar(folder / f"{slide}.tar") as tar:
        for place in wanted:
            tile = source.tile(place)
            if tile is not None:
                (row, column), (jpeg, quality) = place, tile
                offset_b = tar.add(tile_name(slide, x_px0[column], y_px0[row]), jpeg)
                rows.add(x_px0[column], y_px0[row], offset_b, len(jpeg), fractions[row][column], *quality)
    rows.write(folder / f"{slide}.arrow")
    return rows, tar.size_b


def _note_places(
    slide: str, source: TileSource, wanted: Sequence[Place], fraction: NDArray[np.float32], folder: Path, settings: TilesSettings
) -> tuple[TileRows, int]:
    """The rows of the wanted tiles, none of which is stored: 0 bytes."""
    rows, fractions = TileRows(), fraction.tolist()
    limited = settings.tiles.min_sharpness > 0 or settings.tiles.min_intensity_sd > 0
    x_px0, y_px0 = _origins_px0(source)
    for place in wanted:
        tile = source.tile(place) if limited else (b"", UNMEASURED)
        if tile is not None:
            row, column = place
            rows.add(x_px0[column], y_px0[row], 0, 0, fractions[row][column], *tile[1])
    (folder / f"{slide}.tar").unlink(missing_ok=True)
    rows.write(folder / f"{slide}.arrow")
    return rows, 0


def _origins_px0(source: TileSource) -> tuple[list[int], list[int]]:
    """Where each column and row of tiles begins, in level-0 pixels."""
    downsample = source.plane.downsample
    return [round(x_px * downsample) for x_px in source.cut.x_px], [round(y_px * downsample) for y_px in source.cut.y_px]


def tiles(
    slides: Path,
    shard: str,
    tissue: Path,
    masks: Path,
    folder: Path,
    index: Path,
    table: Path,
    max_failed_fraction: float,
    settings: TilesSettings,
    workers: int,
) -> None:
    """Make the tiles of every slide of a shard."""
    found = pd.read_parquet(tissue).merge(slides_of_shard(slides, shard)[["slide", "path", "pretrain"]], on="slide", validate="1:1")
    jobs = [_job(slide, masks, folder, settings) for _, slide in found[found["status"] == "ok"].iterrows()]
    for output in (table, index):
        sweep_parts(output.parent, output.name)
    with room_needed(folder), retries(folder, found["slide"]) as again:
        made = {row["slide"]: row for row in attempt_all(jobs, folder, workers, f"tiles {shard}", again)}
        rows = [made.get(row.slide, {"slide": row.slide, "status": row.status, "reason": row.reason}) for row in found.itertuples()]
        refuse_failures(rows, max_failed_fraction, f"tiles {shard}")
        with_tiles = [(number, row) for number, row in enumerate(rows) if row["status"] == "ok"]
        write_index(index, [(number, row, folder / f"{row['slide']}.arrow") for number, row in with_tiles])
        write_table(_with_first_rows(rows), SCHEMA, table)


def _job(slide: "pd.Series[str]", masks: Path, folder: Path, settings: TilesSettings) -> SlideJob:
    name, path, mask_file = str(slide["slide"]), Path(str(slide["path"])), masks / f"{slide['slide']}.geojson"
    mpp, subpixels = float(slide["mpp"]), int(slide["subpixels"])
    mask_digest = short_digest(mask_file.read_bytes()) if mask_file.is_file() else None  # which its slide will say
    stored = settings.tiles.store == "all" or bool(slide["pretrain"])
    as_stored = settings.model_copy(update={"tiles": settings.tiles.model_copy(update={"store": "all"})})
    source, by_tissue = source_of(path, settings.reader.checksum), read_sidecar(masks / f"{name}.json")
    seen = by_tissue[0]["source"] if by_tissue else {}  # masks of another origin have no sidecar
    inputs = {
        "settings": digest(as_stored),  # what is stored of other slides does not change this one
        "stored": stored,
        "source": source,
        "mask": mask_digest,
        "mpp": mpp,
        "subpixels": subpixels,
    }
    suffixes = SUFFIXES if stored else SUFFIXES[1:]
    if is_replaced(seen, source):
        return SlideJob(name, folder, {**inputs, "seen_by_tissue": seen}, suffixes, partial(_refuse_replaced, seen, source, masks))
    make = partial(make_tiles, name, path, mpp, subpixels, mask_file, stored, folder, settings)
    return SlideJob(name, folder, inputs, suffixes, make)


def _refuse_replaced(seen: Row, source: Row, masks: Path) -> Row:
    """New pixels under the old mask would be no tiles of tissue. Raises SlideError."""
    raise SlideError(why("tissue", seen, source, "Find its tissue again", [f"{masks}.parquet"], "results/catalog/summary.md"))


def _with_first_rows(rows: list[Row]) -> list[Row]:
    numbered, first_row = [], 0
    for row in rows:
        numbered.append({**row, "first_row": first_row, "tiles": row.get("tiles", 0)})
        first_row += row.get("tiles", 0)
    return numbered


if __name__ == "__main__":
    run(tiles)
