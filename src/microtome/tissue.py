"""The rule `tissue`: for each slide of a shard its µm/px and its tissue mask, as GeoJSON in level-0 pixels with an overlay to judge it by.

The mask comes from segmenting a thumbnail in which a tile is `subpixels` x `subpixels` pixels, or from a GeoJSON file that the slide
table names.
"""

from functools import partial
from math import isnan
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from microtome.atomic import atomic_path, sweep_parts, write_text
from microtome.command_line import run
from microtome.digests import short_digest
from microtome.grid import TileGrid, tile_grid
from microtome.ledger import Row, SlideJob, attempt_all, digest, refuse_failures, room_needed, source_of
from microtome.masks import geojson, rasterise, read_geojson
from microtome.one_level import open_for_thumbnail
from microtome.retries import retries
from microtome.settings import TissueSettings
from microtome.slides import Rgb8, Slide, check_extent, resolution
from microtome.thumbnails import OVERLAY_PX, jpeg, overlay, read_thumbnail, sufficient_level, write_contact_sheets
from microtome.tissue_mask import segment

PICTURE_PX = 10**8  # a tenth of a gigapixel slide
SCHEMA = pa.schema(
    [
        ("slide", pa.string()),
        ("status", pa.string()),  # ok, empty, failed
        ("reason", pa.string()),
        ("vendor", pa.string()),
        ("width_px0", pa.int64()),
        ("height_px0", pa.int64()),
        ("mpp", pa.float64()),  # µm per pixel of level 0
        ("mpp_source", pa.string()),
        ("tissue_um2", pa.float64()),
        ("subpixels", pa.int32()),  # of the mask: pixels along a tile's side
        ("threshold", pa.float64()),  # grey level or saturation; null: a drawn mask, or nothing to threshold
    ]
)
SUFFIXES = (".geojson", ".jpg")


def find_tissue(slide: str, path: Path, table_mpp: float | None, mask_file: Path | None, folder: Path, settings: TissueSettings) -> Row:
    """Write a slide's mask and overlay; returns its row of `SCHEMA`.

    Raises:
        SlideError: the slide or its mask cannot be read, or its resolution is unknown or too coarse.
    """
    with open_for_thumbnail(path) as opened:
        found = resolution(opened.properties, table_mpp, settings.reader)
        width_px0, height_px0 = opened.level_sizes_px[0]
        check_extent((width_px0, height_px0), found.mpp)
        subpixels = settings.tissue.subpixels
        row: Row = {"vendor": opened.vendor, "width_px0": width_px0, "height_px0": height_px0}
        row |= {"mpp": found.mpp, "mpp_source": found.source, "tissue_um2": 0.0}
        row |= {"subpixels": subpixels, "threshold": None}
        places = tile_grid(width_px0, height_px0, found.mpp, settings.grid)
        if places.columns * places.rows == 0:
            read_thumbnail(opened, (width_px0, height_px0), 1, 1)  # is it sound?
            return row | {"status": "empty", "reason": f"smaller than a tile: {width_px0} x {height_px0} px, a tile is {places.tile_px0:g}"}
        picture = _picture(places, subpixels, opened)
    thumbnail = _reduced(picture, places.columns * subpixels, places.rows * subpixels)
    subpixel_px0 = places.cell_px0[0] / subpixels, places.cell_px0[1] / subpixels
    if mask_file is None:
        segmented = segment(thumbnail, found.mpp / settings.grid.mpp, settings.tissue)
        mask, row["threshold"] = segmented.tissue, None if isnan(segmented.threshold) else segmented.threshold
    else:
        mask = rasterise(read_geojson(mask_file), subpixel_px0, *thumbnail.shape[:2])
    write_text(folder / f"{slide}.geojson", geojson(mask, subpixel_px0))
    with atomic_path(folder / f"{slide}.jpg") as part:
        part.write_bytes(jpeg(overlay(picture, mask)))
    row["tissue_um2"] = float(mask.sum()) * subpixel_px0[0] * subpixel_px0[1] * found.mpp**2
    return row | ({} if mask.any() else {"status": "empty", "reason": _why_empty(mask_file)})


def _picture(places: TileGrid, subpixels: int, slide: Slide) -> Rgb8:
    """The thumbnail, or a larger picture, a whole multiple of it, for a slide of few tiles: the overlay has to be judged by a person.

    No level larger than `PICTURE_PX` is read for it, unless the thumbnail needs that level.
    """
    width_px, height_px = places.columns * subpixels, places.rows * subpixels
    extent_px0 = places.columns * places.cell_px0[0], places.rows * places.cell_px0[1]
    scale_px0 = min(extent_px0[0] / width_px, extent_px0[1] / height_px)
    needed = slide.downsamples[sufficient_level(slide, scale_px0)]
    small = [of for of, (width, height) in zip(slide.downsamples, slide.level_sizes_px, strict=True) if width * height <= PICTURE_PX]
    finest = max(1, int(scale_px0 / min(needed, *small)))
    factor = min(max(1, OVERLAY_PX // max(width_px, height_px)), finest)
    return read_thumbnail(slide, extent_px0, width_px * factor, height_px * factor)


def _reduced(picture: Rgb8, width_px: int, height_px: int) -> Rgb8:
    return np.asarray(cv2.resize(picture, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)


def _why_empty(mask_file: Path | None) -> str:
    return "no tissue found" if mask_file is None else f"no tissue in the drawn mask {mask_file}"


def slides_of_shard(slides: Path, shard: str) -> pd.DataFrame:
    """The rows of `cohort/slides.parquet` that belong to a shard; there may be none."""
    return pd.read_parquet(slides, filters=[("shard", "==", shard)])


def write_table(rows: list[Row], schema: pa.Schema, table: Path) -> None:
    """Write rows as parquet; what a row lacks is null."""
    with room_needed(table.parent), atomic_path(table) as part, part.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(rows, schema), file)


def tissue(slides: Path, shard: str, folder: Path, table: Path, max_failed_fraction: float, settings: TissueSettings, workers: int) -> None:
    """Find the tissue of every slide of a shard."""
    jobs, found = [], slides_of_shard(slides, shard)
    for slide in found.to_dict("records"):
        path, mask_file = Path(slide["path"]), Path(slide["mask"]) if isinstance(slide["mask"], str) else None
        table_mpp = None if pd.isna(slide["mpp"]) else float(slide["mpp"])
        inputs = {
            "settings": digest(settings),
            "source": source_of(path, settings.reader.checksum),
            "mpp": table_mpp,
            "mask": _content(mask_file),
        }
        make = partial(find_tissue, slide["slide"], path, table_mpp, mask_file, folder, settings)
        jobs.append(SlideJob(slide["slide"], folder, inputs, SUFFIXES, make))
    sweep_parts(table.parent, table.name)
    with room_needed(folder), retries(folder, found["slide"]) as again:
        rows = attempt_all(jobs, folder, workers, f"tissue {shard}", again)
        notes = ["" if row["status"] == "ok" else f"{row['status']}: {row['reason']}" for row in rows]
        write_contact_sheets([(row["slide"], note, folder / f"{row['slide']}.jpg") for row, note in zip(rows, notes, strict=True)], folder)
        refuse_failures(rows, max_failed_fraction, f"tissue {shard}")
        write_table(rows, SCHEMA, table)


def _content(mask_file: Path | None) -> str | None:
    """A digest of a drawn mask; None where there is none, or none that can be read: its slide will say so."""
    try:
        return None if mask_file is None else short_digest(mask_file.read_bytes())
    except OSError:
        return None


if __name__ == "__main__":
    run(tissue)
