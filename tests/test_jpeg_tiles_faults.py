"""The fast path over damaged files: each ends in a reason, and takes no memory."""

import faulthandler
import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from microtome.jpeg_tiles import jpeg_levels
from microtome.ledger import Row, SlideJob, attempt
from microtome.masks import geojson
from microtome.slides import SlideError, open_slide
from microtome.tiles import SUFFIXES as TILES_FILES
from microtome.tiles import make_tiles
from microtome.tissue import SUFFIXES as TISSUE_FILES
from microtome.tissue import find_tissue
from tests.drawn_slides import tissue_like, write_slide
from tests.memory import memory_mb, reset_peak_mb
from tests.stage_settings import tiles_settings, tissue_settings
from tests.test_jpeg_tiles import opened


def damaged(path: Path, tile: int, data: bytes, name: str) -> Path:
    """A copy in which the bytes of level 0's tile are overwritten from their start."""
    with open_slide(path) as slide:
        offset_b = int(jpeg_levels(slide)[0].offsets_b[tile])
    content = bytearray(path.read_bytes())
    content[offset_b : offset_b + len(data)] = data
    (path.parent / name).write_bytes(content)
    return path.parent / name


def test_a_tile_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(1000, 700))
    huge = simplejpeg.encode_jpeg(np.zeros((64, 64, 3), np.uint8), 80).replace(b"\x00\x40\x00\x40", b"\xff\xdc\xff\xdc")
    for name, data, why in (("zeroed", bytes(300), "starts with 00 00"), ("huge", huge, "")):
        with opened(damaged(path, 6, data, f"{name}.tiff"), 256.0) as (_, plane):
            plane.read(0, 0, 256)
            with pytest.raises(SlideError, match=rf"cannot read the JPEG tile at \(512, 256\) of the level with downsample 1: .*{why}"):
                plane.read(512, 256, 256)
    with opened(path, 256.0) as (_, plane):
        end_b = plane._offsets_b[6] + 100
        path.write_bytes(path.read_bytes()[:end_b])
        with pytest.raises(SlideError, match=rf"100 of its {plane._sizes_b[6]} bytes at {end_b - 100} are in the file"):
            plane.read(512, 256, 256)


def test_a_copied_tile_of_another_size_is_named(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(1000, 700))
    small = simplejpeg.encode_jpeg(np.zeros((64, 64, 3), np.uint8), 80)
    with opened(damaged(path, 6, small, "small.tiff"), 256.0) as (_, plane):
        for row, column in ((0, 0), (0, 1), (1, 1)):
            jpeg = plane.source_jpeg(row, column)
            assert jpeg is not None
            plane.check_size(jpeg, row, column)
        jpeg = plane.source_jpeg(1, 2)
        assert jpeg is not None
        with pytest.raises(SlideError, match=r"\(512, 256\) of the level with downsample 1: it is 64 x 64 px"):
            plane.check_size(jpeg, 1, 2)


def test_soak_mutated_files_end_in_a_row_and_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes flipped anywhere, tags and offsets above all: each file is read or fails with a reason, by every way."""
    before_mb = reset_peak_mb()
    rng = np.random.default_rng(20)
    kinds = ("philips", "aperio", "generic")
    wholes = [
        write_slide(tmp_path / kind, tissue_like(700, 560), tile_px=128, kind=kind, factors=factors).read_bytes()
        for factors in ((1, 2), (1,))
        for kind in kinds
    ]
    monkeypatch.setattr("microtome.one_level.GIGAPIXEL", 1)
    monkeypatch.setattr("microtome.tissue.OVERLAY_PX", 1)  # so that thumbnails of one level come from its tiles at 1/8
    mutated, statuses, reasons = tmp_path / "m.tiff", Counter[str](), set[str]()
    for number in range(2000 if os.environ.get("MICROTOME_SOAK") else 40):
        content = bytearray(wholes[number % len(wholes)])
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[int(place)] = int(rng.integers(256))
        for place in rng.integers(0, 3000, rng.integers(0, 12)):  # tags, offsets and sizes of level 0
            content[int(place)] = int(rng.choice([0, 255, int(rng.integers(256))]))
        mutated.write_bytes(content[: int(rng.integers(100, len(content)))] if rng.random() < 0.2 else content)
        faulthandler.dump_traceback_later(30, exit=True)  # a file that hangs, be it in a library, ends the test with a traceback
        for row in _rows_of(mutated, copied=number // len(wholes) % 2 == 1):
            assert bool(row["reason"]) == (row["status"] != "ok"), row
            statuses[row["status"]] += 1
            reasons.add(row.get("reader", row["reason"][:20]))
        faulthandler.cancel_dump_traceback_later()
    assert min(statuses["ok"], statuses["failed"]) > 5, statuses
    assert {"copy", "jpeg"} < reasons
    assert memory_mb("VmHWM") - before_mb < 1000


def _rows_of(path: Path, copied: bool) -> list[Row]:
    """The rows of both stages for a slide at 0.5 µm/px; tiles everywhere, so that what tissue makes of it does not hide what follows."""
    folder = path.parent / "made"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sections = {"grid": {"tile_px": 128, "layout": "aligned"} if copied else {"tile_px": 64, "mpp": 1.1}}
    found = partial(find_tissue, "found", path, 0.5, None, folder, tissue_settings(**sections))
    everywhere = folder / "everywhere.geojson"
    everywhere.write_text(geojson(np.ones((1, 1), bool), (700, 560)))
    made = partial(make_tiles, "made", path, 0.5, 4, everywhere, True, folder, tiles_settings(**sections))
    stages = ("found", TISSUE_FILES, found), ("made", TILES_FILES, made)
    return [attempt(SlideJob(name, folder, {}, suffixes, make)) for name, suffixes, make in stages]
