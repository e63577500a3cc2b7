"""Where tiles come from: cut and coded again, or the source's own, at whole pixels and never over the edge."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import assume, given
from hypothesis import strategies as st

from microtome.config import Grid
from microtome.grid import tile_grid
from microtome.jpeg_tiles import jpeg_levels
from microtome.slides import Rgb8, open_slide
from microtome.tile_quality import measure
from microtome.tile_source import CutTiles, cut_at, tile_source
from tests.drawn_slides import tissue_like, write_slide
from tests.stage_settings import tiles_settings
from tests.test_tiles import GRID, index_of, make_tiles, pixels_of, run


@pytest.mark.parametrize(("subsampling", "expected"), [("420", "420"), ("444", "444")])
def test_chroma_is_subsampled_as_configured(subsampling: str, expected: str, tmp_path: Path) -> None:
    run(tmp_path, {"a": {"path": str(write_slide(tmp_path / "a.tiff", tissue_like(500, 400)))}}, jpeg_subsampling=subsampling)
    tar = (tmp_path / "tiles" / "0" / "a.tar").read_bytes()
    headers = {simplejpeg.decode_jpeg_header(tar[row.offset_b : row.offset_b + row.size_b]) for row in index_of(tmp_path).itertuples()}
    assert headers == {(128, 128, "YCbCr", expected)}


def test_origins_snap_to_the_decode_scale(tmp_path: Path) -> None:
    path = str(write_slide(tmp_path / "a.tiff", tissue_like(1501, 1103), 0.125, factors=(1,)))
    found = run(tmp_path, {"a": {"path": path}}, grid={"tile_px": 64}).loc["a"]
    index = index_of(tmp_path)
    assert 0 < found["shift_px0"] <= 4  # decoded at 1/4: half a pixel of it, or up to one where the edge is in the way
    assert (index[["x_px0", "y_px0"]] % 4 == 0).all(axis=None)


def test_matching_source_tiles_are_copied(tmp_path: Path) -> None:
    drawn = tissue_like(1500, 1100)
    path = write_slide(tmp_path / "a.tiff", drawn, kind="aperio", coding="rgb", tile_px=128, quality=90)
    found = run(tmp_path, {"a": {"path": str(path)}}, grid={"layout": "aligned"}).loc["a"]
    index = index_of(tmp_path)
    assert (found["reader"], found["shift_px0"], found["mpp"]) == ("copy", 0, 0.5)
    source = path.read_bytes()
    for row in index.itertuples():
        expected = drawn[row.y_px0 : row.y_px0 + 128, row.x_px0 : row.x_px0 + 128]
        assert np.abs(pixels_of(tmp_path, "a", row).astype(int) - expected).mean() < 2
        data = (tmp_path / "tiles" / "0" / "a.tar").read_bytes()[row.offset_b : row.offset_b + row.size_b]
        assert data[-row.size_b // 2 :] in source  # not coded again
        assert row.sharpness == pytest.approx(measure(pixels_of(tmp_path, "a", row)).sharpness, rel=1e-3)


def test_copied_tiles_are_measured_where_they_are_checked_or_a_limit_is_set(tmp_path: Path) -> None:
    path = str(write_slide(tmp_path / "a.tiff", tissue_like(700, 500), tile_px=128))
    for check_copies, least_sd, unmeasured in ((True, 0.0, False), (False, 0.0, True), (False, 1.0, False)):
        how: dict[str, Any] = {"check_copies": check_copies, "min_intensity_sd": least_sd}
        assert run(tmp_path, {"a": {"path": path}}, grid={"layout": "aligned"}, **how).loc["a", "reader"] == "copy"
        assert (index_of(tmp_path)[["mean", "sd", "sharpness"]].isna() == unmeasured).all(axis=None)


def test_damage_within_a_copied_tile_fails_its_slide_where_copies_are_checked(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tiff", tissue_like(1500, 1100), kind="aperio", tile_px=128)
    run(tmp_path, {"a": {"path": str(path)}}, grid={"layout": "aligned"}, check_copies=False)
    first: Any = next(index_of(tmp_path).itertuples())
    with open_slide(path) as slide:
        level = jpeg_levels(slide)[0]
    number = first.y_px0 // 128 * level.columns + first.x_px0 // 128
    data, middle, before = bytearray(path.read_bytes()), int(level.offsets_b[number] + level.sizes_b[number] // 2), path.stat()
    data[middle : middle + 512] = bytes(512)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # decayed, not replaced
    grid = {**GRID, "layout": "aligned"}
    checked, copied = (make_tiles(tmp_path, tiles_settings(grid=grid, tiles={"check_copies": on})).loc["a"] for on in (True, False))
    assert checked["status"] == "failed"
    place = rf"\({first.x_px0}, {first.y_px0}\)"
    assert re.match(rf"cannot read the JPEG tile at {place} of the level with downsample 1: Corrupt JPEG data", checked["reason"])
    assert (copied["status"], copied["reader"]) == ("ok", "copy")
    with pytest.raises(ValueError, match="Corrupt JPEG data"):
        pixels_of(tmp_path, "a", first)


class Plain:
    """A plane that is a picture, of which a pixel is `downsample` of level 0."""

    def __init__(self, picture: Rgb8, downsample: float) -> None:
        self.picture, self.downsample = picture, downsample
        self.size_px = picture.shape[1], picture.shape[0]

    def read(self, x_px: int, y_px: int, side_px: int) -> Rgb8:
        return np.ascontiguousarray(self.picture[y_px : y_px + side_px, x_px : x_px + side_px])


@given(
    width_px0=st.integers(40, 5000),
    height_px0=st.integers(40, 5000),
    mpp=st.floats(0.1, 0.5),
    layout=st.sampled_from(["published", "aligned"]),
    downsample=st.sampled_from([1.0, 2.0, 3.9996, 4.0]),
)
def test_tiles_are_at_whole_pixels_near_their_places_and_inside(
    width_px0: int, height_px0: int, mpp: float, layout: Any, downsample: float
) -> None:
    places = tile_grid(width_px0, height_px0, mpp, Grid(tile_px=16, mpp=0.5, layout=layout))
    assume(places.columns and places.rows and places.tile_px0 / downsample >= 16)
    size_px = int(width_px0 // downsample), int(height_px0 // downsample)
    plane = Plain(np.broadcast_to(np.uint8(0), (size_px[1], size_px[0], 3)), downsample)
    cut = cut_at(places, plane)
    moved = []
    for origins_px, origins_px0, side in ((cut.x_px, places.x_px0, size_px[0]), (cut.y_px, places.y_px0, size_px[1])):
        assert min(origins_px) >= 0
        assert max(origins_px) + cut.side_px <= side
        moved += [abs(ours * downsample - wanted) for ours, wanted in zip(origins_px, origins_px0, strict=True)]
    assert cut.shift_px0 == pytest.approx(max(moved))
    assert cut.shift_px0 <= 1.5 * downsample + 1e-6, "half a pixel, or what rounding the side and the plane's size may take at the edge"
    assert cut.side_px == pytest.approx(places.tile_px0 / downsample, abs=0.51)


def test_a_tile_is_the_mean_of_what_it_covers_as_a_jpeg_of_the_wanted_size() -> None:
    drawn = tissue_like(256, 128, seed=3)
    plane, limits = Plain(drawn, 0.5), {"min_sharpness": 0.0, "min_intensity_sd": 0.0}
    cut = cut_at(tile_grid(128, 64, 0.25, Grid(tile_px=32, mpp=0.5, layout="aligned")), plane)
    settings = tiles_settings(grid={"tile_px": 32}, tiles={"jpeg_quality": 95, "jpeg_subsampling": "444", **limits})
    source = CutTiles(plane, cut, settings)
    expected = drawn[:128, 128:].reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(source.pixels((0, 1)) - expected).max() <= 0.5
    found = source.tile((0, 1))
    assert found is not None
    assert simplejpeg.decode_jpeg_header(found[0]) == (32, 32, "YCbCr", "444")
    assert np.abs(simplejpeg.decode_jpeg(found[0]) - expected).mean() < 2
    assert found[1] == measure(source.pixels((0, 1)))
    assert CutTiles(plane, cut, tiles_settings(grid={"tile_px": 32}, tiles={"min_sharpness": found[1].sharpness + 1})).tile((0, 1)) is None


@pytest.mark.parametrize(
    ("tile_px", "mpp", "layout", "fast_path", "reader", "note"),
    [
        (128, 0.5, "aligned", True, "copy", ""),
        (128, 0.5, "published", True, "jpeg", ""),  # 700 x 500 px: places are spread, and on no grid of source tiles
        (64, 0.5, "aligned", True, "jpeg", ""),
        (64, 1.0, "aligned", True, "jpeg", ""),
        (128, 0.5, "aligned", False, "openslide", "tiles.fast_path is off"),
    ],
)
def test_source_tiles_are_copied_where_grid_size_and_resolution_fit(
    tile_px: int, mpp: float, layout: str, fast_path: bool, reader: str, note: str, tmp_path: Path
) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(700, 500), kind="philips", tile_px=128, factors=(1,), missing=(1,))
    settings = tiles_settings(grid={"tile_px": tile_px, "mpp": mpp, "layout": layout}, tiles={"fast_path": fast_path})
    places = tile_grid(700, 500, 0.5, settings.grid)
    with open_slide(path) as slide, path.open("rb") as file:
        source, said = tile_source(slide, file.fileno(), places, [(1, 1)], settings)
        assert (source.reader, said) == (reader, note)
        if reader == "copy":
            not_scanned = source.tile((0, 1))
            assert not_scanned is not None
            assert (simplejpeg.decode_jpeg(not_scanned[0]) == 255).all(), "white, by way of its pixels"
