"""The rule `tiles` over slides, places and masks that cannot be read, were replaced, or are odd."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg

from microtome.jpeg_tiles import jpeg_levels
from microtome.slides import open_slide
from microtome.tissue import tissue
from tests.drawn_slides import tissue_like, write_slide
from tests.stage_settings import tiles_settings, tissue_settings
from tests.test_tiles import GRID, index_of, make_tiles, pixels_of, run
from tests.test_tissue import write_cohort


def test_a_place_that_cannot_be_read_fails_its_slide_alone_and_names_the_place(tmp_path: Path) -> None:
    drawn = tissue_like(1500, 1100)
    slides = {name: {"path": str(write_slide(tmp_path / f"{name}.tiff", drawn))} for name in ("a", "b")}
    run(tmp_path, slides)
    content = bytearray((tmp_path / "b.tiff").read_bytes())
    start = content.index(b"\xff\xd8\xff", len(content) // 3)
    content[start : start + 600] = bytes(600)  # in the middle of level 0
    before = (tmp_path / "b.tiff").stat()
    (tmp_path / "b.tiff").write_bytes(content)
    os.utime(tmp_path / "b.tiff", ns=(before.st_atime_ns, before.st_mtime_ns))  # decayed, not replaced
    for fast_path, message in ((True, "cannot read"), (False, r"cannot read 128 x 128 px of level 0 at \(\d+, \d+\)")):
        table = make_tiles(tmp_path, tiles_settings(grid=GRID, tiles={"fast_path": fast_path, "jpeg_quality": 70}))
        assert table["status"].tolist() == ["ok", "failed"]
        assert pd.Series([table.loc["b", "reason"]]).str.match(message).all(), table.loc["b", "reason"]
        assert not list((tmp_path / "tiles" / "0").glob("b.tar"))
        assert set(index_of(tmp_path)["slide_row"]) == {0}


@pytest.mark.parametrize("already_tiled", [False, True])
def test_a_slide_replaced_after_tissue_gets_no_tiles_under_the_old_mask(already_tiled: bool, tmp_path: Path) -> None:
    slides = {name: {"path": str(write_slide(tmp_path / f"{name}.tiff", tissue_like(900, 700, seed)))} for seed, name in enumerate("ab")}
    run(tmp_path, slides)
    settings = tiles_settings(grid=GRID, tiles={"jpeg_quality": 70})
    write_slide(tmp_path / "b.tiff", tissue_like(900, 700, seed=9))
    if already_tiled:  # by a release that did not look
        sidecar, mask = tmp_path / "tissue" / "0" / "b.json", tmp_path / "tissue" / "0" / "b.geojson"
        note = sidecar.read_text()
        sidecar.unlink()  # a mask without a note, of another origin, is taken as it is
        assert mask.is_file()
        assert make_tiles(tmp_path, settings)["status"].tolist() == ["ok", "ok"]
        sidecar.write_text(note)
    table = make_tiles(tmp_path, settings)
    assert table["status"].tolist() == ["ok", "failed"]
    size = (tmp_path / "b.tiff").stat().st_size
    assert re.match(
        rf"not the file that `tissue` saw: expected [\d,]+ bytes of .*, found {size:,} bytes of \d{{4}}-", table.loc["b", "reason"]
    )
    assert table.loc["b", "reason"].endswith(f"snakemake --forcerun {tmp_path}/tissue/0.parquet -- results/catalog/summary.md")
    assert not (tmp_path / "tiles" / "0" / "b.tar").exists()
    assert run(tmp_path, slides, jpeg_quality=70)["status"].tolist() == ["ok", "ok"], "tissue and tiles"


def test_a_copy_with_the_same_checksum_is_the_same_slide(tmp_path: Path) -> None:
    slides = {"a": {"path": str(write_slide(tmp_path / "a.tiff", tissue_like(900, 700)))}}
    cohort, reader = write_cohort(tmp_path / "slides.parquet", slides), {"checksum": True}
    sections = {"grid": GRID, "tissue": {"min_component_tiles": 2}, "reader": reader}
    tissue(cohort, "0", tmp_path / "tissue" / "0", tmp_path / "tissue" / "0.parquet", 1.0, tissue_settings(**sections), 1)
    os.utime(tmp_path / "a.tiff", ns=(1, 1))
    assert make_tiles(tmp_path, tiles_settings(grid=GRID, reader=reader))["status"].tolist() == ["ok"]
    assert make_tiles(tmp_path, tiles_settings(grid=GRID))["status"].tolist() == ["failed"], "without it size and time decide"


def test_a_slide_with_a_tile_that_openslide_alone_reads_is_read_by_it(tmp_path: Path) -> None:
    drawn = tissue_like(1500, 1100)
    path = write_slide(tmp_path / "s.tiff", drawn, quality=95)
    odd = with_bytes_before_its_end(path, 7)
    found = run(tmp_path, {"s": {"path": str(path)}, "odd": {"path": str(odd)}}, jpeg_quality=95, jpeg_subsampling="444")
    assert found["status"].tolist() == ["ok", "ok"]
    assert found["reader"].to_dict() == {"s": "jpeg", "odd": "openslide"}
    assert re.match(
        r"cannot read the JPEG tile at \(\d+, \d+\) of the level with downsample 1: .*extraneous", found.loc["odd", "reader_note"]
    )
    index = index_of(tmp_path)
    places = [index[index["slide_row"] == row][["x_px0", "y_px0"]].reset_index(drop=True) for row in (0, 1)]
    pd.testing.assert_frame_equal(*places)
    pixels = {
        slide: [pixels_of(tmp_path, slide, row) for row in index[index["slide_row"] == n].itertuples()]
        for n, slide in enumerate(found.index)
    }
    assert np.abs(np.array(pixels["s"], int) - np.array(pixels["odd"], int)).mean() < 2, "tile 7 was coded once more"


def with_bytes_before_its_end(path: Path, number: int) -> Path:
    """A copy in which a source tile has zeros before its end, as some scanners write: libjpeg warns of them."""
    with open_slide(path) as slide:
        level = jpeg_levels(slide)[0]
    offset_b, size_b = int(level.offsets_b[number]), int(level.sizes_b[number])
    content = bytearray(path.read_bytes())
    pixels = simplejpeg.decode_jpeg(level.head + bytes(content[offset_b + 2 : offset_b + size_b]))
    smaller = simplejpeg.encode_jpeg(pixels, 60, colorsubsampling="420")
    content[offset_b : offset_b + size_b] = smaller[:-2] + bytes(size_b - len(smaller)) + smaller[-2:]
    (path.parent / "odd.tiff").write_bytes(content)
    return path.parent / "odd.tiff"


def test_a_mask_that_cannot_be_read_is_its_slides_failure(tmp_path: Path) -> None:
    path = str(write_slide(tmp_path / "a.tiff", tissue_like(900, 700)))
    (tmp_path / "folder.geojson").mkdir()
    found = run(tmp_path, {"a": {"path": path}, "b": {"path": path}, "c": {"path": path, "mask": str(tmp_path / "folder.geojson")}})
    assert found["status"].to_dict() == {"a": "ok", "b": "ok", "c": "failed"}
    assert found.loc["c", "reason"] == f"mask {tmp_path / 'folder.geojson'}: Is a directory"
    (tmp_path / "tissue" / "0" / "b.geojson").unlink()
    again = make_tiles(tmp_path, tiles_settings(grid=GRID, tiles={"jpeg_quality": 70}))
    assert again["status"].to_dict() == {"a": "ok", "b": "failed", "c": "failed"}
    assert again.loc["b", "reason"].endswith("b.geojson: No such file or directory")
