"""Opening slides, and where their µm/px comes from."""

import math
from pathlib import Path

import numpy as np
import pytest

from microtome.config import Reader
from microtome.slides import SlideError, check_extent, on_white, open_slide, resolution
from tests.drawn_slides import tissue_like, write_slide
from tests.memory import memory_mb

READER = Reader(checksum=False, allow_objective_power=False, min_mpp=0.05, max_mpp=20.0)
METADATA = {"openslide.vendor": "aperio", "openslide.mpp-x": "0.499", "openslide.mpp-y": "0.501"}
TAGS = {"openslide.vendor": "aperio", "tiff.XResolution": "40000", "tiff.YResolution": "40000", "tiff.ResolutionUnit": "centimeter"}
POWER = {"openslide.objective-power": "20"}


@pytest.mark.parametrize(
    ("properties", "table_mpp", "expected"),
    [
        (METADATA | TAGS | POWER, 0.3, (0.3, "table")),
        (METADATA | TAGS | POWER, None, (0.5, "metadata")),
        (METADATA | TAGS | POWER, math.nan, (0.5, "metadata")),
        (METADATA | {"openslide.vendor": "generic-tiff"}, None, (0.5, "tiff resolution")),
        (TAGS | POWER, None, (0.25, "tiff resolution")),
        (TAGS | {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "50800", "tiff.YResolution": "50800"}, None, (0.5, "tiff resolution")),
        (POWER | {"openslide.mpp-x": "nonsense", "openslide.mpp-y": "0"}, None, (0.5, "objective power")),
    ],
)
def test_the_best_known_resolution_is_taken(properties: dict[str, str], table_mpp: float | None, expected: tuple[float, str]) -> None:
    allowed = READER.model_copy(update={"allow_objective_power": True})
    found = resolution(properties, table_mpp, allowed)
    assert (found.mpp, found.source) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(
    ("properties", "table_mpp", "message"),
    [
        ({}, None, "no µm/px in its metadata: give it in the slide table's column mpp"),
        (POWER, None, r"nominal power 20: reader.allow_objective_power would take 10 / 20"),
        ({"tiff.XResolution": "1", "tiff.YResolution": "1", "tiff.ResolutionUnit": "none"}, None, "no µm/px"),
        (
            TAGS | {"tiff.XResolution": "28.3", "tiff.YResolution": "28.3"},
            None,
            r"implausible 353.357 µm/px \(from tiff resolution; expected 0.05",
        ),
        ({}, 0.01, r"implausible 0.01 µm/px \(from table"),
        (METADATA | {"openslide.mpp-x": "0.25"}, None, "pixels are not square: 0.25 along x, 0.501 along y"),
    ],
)
def test_an_unknown_or_implausible_resolution_is_a_reason(properties: dict[str, str], table_mpp: float | None, message: str) -> None:
    with pytest.raises(SlideError, match=message):
        resolution(properties, table_mpp, READER)


def test_a_slide_larger_than_any_glass_is_a_reason() -> None:
    check_extent((200_000, 200_000), 1.0)
    check_extent((1_000_000, 100), 0.25)
    for size_px0, mpp in (((7_799_484, 500), 0.5), ((500, 7_799_484), 0.5), ((30_000, 20_000), 10.0)):
        with pytest.raises(SlideError, match=r"implausible size: .* µm are .*00 mm long, expected at most 250 mm"):
            check_extent(size_px0, mpp)


def test_files_that_are_no_slides_say_what_they_are(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    files = {"empty.svs": b"", "pointer.svs": pointer.encode(), "text.svs": b"hello", "folder.svs": None}
    whole = write_slide(tmp_path / "whole.tiff", tissue_like(600, 600)).read_bytes()
    tail = int.from_bytes(whole[4:8], "little")
    files["cut.svs"] = whole[: tail - 1]
    for name, content in files.items():
        (tmp_path / name).mkdir() if content is None else (tmp_path / name).write_bytes(content)
    reasons = {}
    for name in [*files, "absent.svs"]:
        with pytest.raises(SlideError) as caught:
            open_slide(tmp_path / name)
        reasons[name] = str(caught.value)
    assert reasons["empty.svs"] == "the file is empty (0 bytes)"
    assert "git lfs pull" in reasons["pointer.svs"]
    assert reasons["text.svs"] == "not a slide of a format that OpenSlide knows, or damaged"
    assert reasons["folder.svs"].startswith("not a file: ")
    assert reasons["cut.svs"] == f"cut off: its TIFF directory is at byte {tail}, the file has {tail - 1} bytes"
    assert reasons["absent.svs"].startswith("no such file: ")


def test_pixels_are_those_that_were_drawn(tmp_path: Path) -> None:
    drawn = np.full((512, 768, 3), 230, np.uint8)
    drawn[100:300, 200:500] = (200, 90, 150)
    with open_slide(write_slide(tmp_path / "s.tiff", drawn, 0.25, subsampling="444", quality=98)) as slide:
        assert (slide.vendor, slide.level_sizes_px, slide.downsamples) == ("generic-tiff", ((768, 512), (384, 256), (192, 128)), (1, 2, 4))
        assert resolution(slide.properties, None, READER).mpp == pytest.approx(0.25)
        region = slide.read(190, 90, 0, 50, 40)
        assert region.shape == (40, 50, 3)
        assert np.abs(region.astype(int) - drawn[90:130, 190:240]).mean() < 1
        assert (slide.read(760, 500, 0, 20, 20)[12:] == 255).all()  # beyond the edge: white


def test_transparent_pixels_are_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 200, 51]]], np.uint8)
    assert on_white(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [204, 224, 244]]]


def test_a_region_that_cannot_be_read_is_named(shared_data: Path) -> None:
    named = pytest.raises(SlideError, match=r"cannot read 2220 x 2967 px of level 0 at \(0, 0\)")
    with open_slide(shared_data / "bad" / "CMU-1-Small-Region.zeroed60k.svs") as slide, named:
        slide.read(0, 0, 0, 2220, 2967)


def test_memory_stays_flat_over_2000_slides(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(600, 600))

    def held_after_mb(slides: int) -> float:
        for _ in range(slides):
            with open_slide(path) as slide:
                slide.read(0, 0, 0, 256, 256)
        return memory_mb("VmRSS")

    after_200_mb = held_after_mb(200)
    assert held_after_mb(1800) - after_200_mb < 15


@pytest.mark.parametrize("kind", ["aperio", "philips", "generic"])
def test_a_tile_that_is_not_in_the_file(kind: str, tmp_path: Path) -> None:
    """Scanners that leave out background mean it; one that scans all of a slide has lost the tile: no filler pixels."""
    path = write_slide(tmp_path / "s.tiff", tissue_like(1300, 900), kind=kind, tile_px=256, factors=(1, 2), missing=(8,))
    with open_slide(path) as slide:
        assert slide.read(0, 0, 0, 512, 256).max() < 255
        assert slide.read(1000, 700, 0, 400, 300)[:200, :300].max() < 255, "beyond the edge there is nothing to be lost"
        if kind == "aperio":
            with pytest.raises(SlideError, match=r"has no pixels at \(512, 256\) in level 0: a tile is missing in the file"):
                slide.read(500, 200, 0, 300, 200)
        else:
            assert (slide.read(512, 256, 0, 256, 256) == 255).all()
