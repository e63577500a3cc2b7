"""A gigapixel slide without a small level: its thumbnail comes from level 0 decoded at 1/8, and is the same; or the slide is refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from microtome.one_level import WithEighth, open_for_thumbnail
from microtome.slides import OpenSlideReader, SlideError, open_slide
from microtome.thumbnails import read_thumbnail
from microtome.tissue import find_tissue
from tests.drawn_slides import Image, tissue_like, write_slide
from tests.stage_settings import tissue_settings

EXTENT_PX0, SIZE_PX = (2048.0, 1536.0), (64, 48)  # 32 pixels of level 0 a pixel


@pytest.fixture(scope="module")
def drawn() -> Image:
    return tissue_like(2048, 1536, seed=3)


@pytest.fixture
def small_gigapixel(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("one_level", "thumbnails"):
        monkeypatch.setattr(f"microtome.{module}.GIGAPIXEL", 2048 * 1536)


@pytest.fixture
def read_px(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pixels OpenSlide has read, call by call."""
    read: list[int] = []
    whole = OpenSlideReader.read

    def counted(self: OpenSlideReader, x: int, y: int, level: int, width: int, height: int) -> Image:
        read.append(width * height)
        return whole(self, x, y, level, width, height)

    monkeypatch.setattr(OpenSlideReader, "read", counted)
    return read


@pytest.mark.usefixtures("small_gigapixel")
@pytest.mark.parametrize(
    ("kind", "coding", "subsampling"), [("generic", "ycbcr", "420"), ("aperio", "rgb", "444"), ("philips", "ycbcr", "444")]
)
@pytest.mark.parametrize("block_px", [90, 4096])
def test_level_0_is_not_read(
    kind: str,
    coding: str,
    subsampling: str,
    block_px: int,
    drawn: Image,
    read_px: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_slide(tmp_path / "s.tiff", drawn, kind=kind, coding=coding, subsampling=subsampling, factors=(1,))
    expected = drawn.reshape(48, 32, 64, 32, 3).mean((1, 3))
    monkeypatch.setattr("microtome.thumbnails.BLOCK_PX", block_px)
    with open_for_thumbnail(path) as slide:
        assert isinstance(slide, WithEighth)
        found = read_thumbnail(slide, EXTENT_PX0, *SIZE_PX)
        part, plain = (
            read_thumbnail(slide, (512.0, 256.0), 32, 16, (704.0, 304.0)),
            drawn[304:560, 704:1216].reshape(16, 16, 32, 16, 3).mean((1, 3)),
        )
    assert sum(read_px) == 512 * 512, "what is compared"
    assert np.abs(found - expected).mean() < 1
    assert np.abs(part - plain).mean() < 1.5
    assert plain.std() > 10


def test_a_slide_that_is_thinner_than_what_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microtome.one_level.GIGAPIXEL", 1)
    for height_px0 in (200, 400):
        path = write_slide(tmp_path / f"{height_px0}.tiff", tissue_like(1024, height_px0), factors=(1,))
        with open_for_thumbnail(path) as slide:
            assert isinstance(slide, OpenSlideReader)


def test_other_slides_are_opened_as_they_are(drawn: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write_slide(tmp_path / "one.tiff", drawn, factors=(1,))
    with open_for_thumbnail(one) as slide:
        assert isinstance(slide, OpenSlideReader), "no gigapixel"
    monkeypatch.setattr("microtome.one_level.GIGAPIXEL", 2048 * 1536)
    with open_for_thumbnail(write_slide(tmp_path / "more.tiff", drawn)) as slide:
        assert isinstance(slide, OpenSlideReader), "has smaller levels"


@pytest.mark.usefixtures("small_gigapixel")
def test_a_level_that_is_too_small_leaves_room_for_one_at_an_eighth(drawn: Image, read_px: list[int], tmp_path: Path) -> None:
    path = write_slide(tmp_path / "gap.tiff", drawn, factors=(1, 64), subsampling="444")
    with open_slide(path) as slide:
        smallest = slide.read(0, 0, 1, 32, 24)
    read_px.clear()
    with open_for_thumbnail(path) as slide:
        assert slide.downsamples == (1, 8, 64)
        assert slide.level_sizes_px == ((2048, 1536), (256, 192), (32, 24))
        found = read_thumbnail(slide, EXTENT_PX0, *SIZE_PX)
        assert sum(read_px) == 512 * 512, "what is compared"
        np.testing.assert_array_equal(slide.read(0, 0, 2, 32, 24), smallest)
        assert np.abs(slide.read(512, 256, 0, 64, 64).astype(int) - drawn[256:320, 512:576]).mean() < 3
    assert np.abs(found - drawn.reshape(48, 32, 64, 32, 3).mean((1, 3))).mean() < 1


@pytest.mark.usefixtures("small_gigapixel")
def test_what_cannot_be_decoded_small_is_refused_and_not_read(
    drawn: Image, read_px: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lossless = tmp_path / "lossless.tiff"
    inch = 25_400 / 0.5
    tifffile.imwrite(
        lossless, drawn, tile=(256, 256), photometric="rgb", compression="zlib", resolution=(inch, inch), resolutionunit="INCH"
    )
    lost = write_slide(tmp_path / "lost.tiff", drawn, factors=(1,), missing=(1,))
    wide = write_slide(tmp_path / "wide.tiff", drawn, factors=(1,))
    for path, max_rows_b in ((lossless, 10**9), (lost, 10**9), (wide, 10**6)):
        monkeypatch.setattr("microtome.one_level.MAX_ROWS_B", max_rows_b)
        with pytest.raises(SlideError, match=rf"^2048 x 1536 px without a small level: expected a pyramid.*vips tiffsave {path.name}"):
            find_tissue("s", path, None, None, tmp_path, tissue_settings())
    assert sum(read_px) == 0
    with open_for_thumbnail(lossless) as slide:
        assert read_thumbnail(slide, (512.0, 512.0), 16, 16).std() > 5, "a small part, for a figure"


@pytest.mark.usefixtures("small_gigapixel")
def test_its_tissue_is_that_of_a_slide_with_levels(
    drawn: Image, read_px: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microtome.tissue.OVERLAY_PX", 1)  # no picture finer than the thumbnail, 32 pixels of level 0 a pixel
    settings = tissue_settings(grid={"tile_px": 128}, tissue={"min_component_tiles": 2})
    areas_um2 = []
    for name, factors in (("one", (1,)), ("more", (1, 2, 4, 8))):
        path = write_slide(tmp_path / f"{name}.tiff", drawn, factors=factors)
        read_px.clear()
        areas_um2.append(find_tissue(name, path, None, None, tmp_path, settings)["tissue_um2"])
        assert sum(read_px) < 0.1 * 2048 * 1536, "level 0 was not read"
    assert areas_um2[0] == pytest.approx(areas_um2[1], rel=0.01)
    assert areas_um2[0] > 1e5


def test_the_overlay_reads_no_large_level_that_the_thumbnail_does_not_need(
    drawn: Image, read_px: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_slide(tmp_path / "s.tiff", drawn, factors=(1, 16))
    settings = tissue_settings(grid={"tile_px": 128}, tissue={"min_component_tiles": 2})
    read = {}
    for largest_px in (10**8, 10**6):
        monkeypatch.setattr("microtome.tissue.PICTURE_PX", largest_px)
        read_px.clear()
        find_tissue("s", path, None, None, tmp_path, settings)
        read[largest_px] = sum(read_px)
    assert read[10**8] > 2048 * 1536 * 0.9, "a small slide is read for a picture to judge it by"
    assert read[10**6] < 2048 * 1536 / 16**2 * 1.5
