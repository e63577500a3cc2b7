"""The fast path: its pixels are OpenSlide's, in the same place, for each coding that scanners write; and damaged files do no harm."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microtome.jpeg_tiles import MAX_ROWS_B, JpegLevel, JpegPlane, Unusual, check_agreement, jpeg_levels, jpeg_plane, rows_b
from microtome.planes import resized
from microtome.slides import Slide, open_slide
from tests.drawn_slides import tissue_like, write_slide

Image = NDArray[np.uint8]


@contextmanager
def opened(path: Path, tile_px0: float, tile_px: int = 256) -> Iterator[tuple[Slide, JpegPlane]]:
    with open_slide(path) as slide, path.open("rb") as file:
        yield slide, jpeg_plane(slide, file.fileno(), tile_px0, tile_px)


def area_average(slide: Slide, plane: JpegPlane, x_px: int, y_px: int, side_px: int, level: int = 0) -> NDArray[np.float64]:
    """What OpenSlide reads at `level`, averaged to the plane's pixels."""
    factor = round(plane.downsample / slide.downsamples[level])
    pixels = slide.read(round(x_px * plane.downsample), round(y_px * plane.downsample), level, side_px * factor, side_px * factor)
    return pixels.reshape(side_px, factor, side_px, factor, 3).mean(axis=(1, 3))


CODINGS = [("ycbcr", "420"), ("ycbcr", "422"), ("ycbcr", "444"), ("rgb", "444")]


@pytest.mark.parametrize("kind", ["generic", "aperio", "philips"])
@pytest.mark.parametrize(("coding", "subsampling"), CODINGS)
def test_pixels_are_the_area_average_of_level_0(kind: str, coding: str, subsampling: str, tmp_path: Path) -> None:
    drawn = tissue_like(1500, 1100, seed=2)
    tile_px = 240 if kind == "aperio" else 256
    path = write_slide(
        tmp_path / "s.tiff", drawn, kind=kind, coding=coding, subsampling=subsampling, tile_px=tile_px, factors=(1,), quality=80
    )
    for scale in (1, 2, 4):
        with opened(path, 128.0 * scale, 128) as (slide, plane):
            assert plane.scale == scale
            difference = plane.read(61, 33, 128) - area_average(slide, plane, 61, 33, 128)
            assert np.abs(difference).mean() < (1e-9 if scale == 1 else 0.8)
            assert abs(difference.mean()) < 0.2


def test_pixels_are_the_area_average_on_real_slides(shared_data: Path) -> None:
    with opened(shared_data / "slides" / "CMU-1-Small-Region.svs", 512.0) as (slide, plane):  # RGB-coded, components 0, 1, 2, no marker
        assert (plane.scale, plane.level.downsample) == (2, 1)
        assert np.abs(plane.read(400, 500, 512) - area_average(slide, plane, 400, 500, 512)).mean() < 0.6
    with opened(shared_data / "slides" / "philips_style_5714_HE_BT_C2.tiff", 512.0) as (slide, plane):
        assert (plane.scale, plane.level.downsample) == (1, 2)  # the slide has this level: its own pixels, as OpenSlide reads them
        assert (plane.read(2000, 2000, 512) == area_average(slide, plane, 2000, 2000, 512, level=1)).all()
        for scale in (2, 4, 8):
            from_level_0 = JpegPlane(plane._descriptor, jpeg_levels(slide)[0], scale)
            x_px = 4000 // scale
            assert np.abs(from_level_0.read(x_px, x_px, 256) - area_average(slide, from_level_0, x_px, x_px, 256)).mean() < 1


@pytest.mark.parametrize(
    ("tile_px0", "tile_px", "scale"), [(518.8, 256, 1), (563.2, 256, 1), (1024, 256, 4), (1127.0, 256, 1), (700.0, 64, 2), (1600.0, 64, 4)]
)
def test_tiles_that_are_no_whole_multiple_are_averaged_once(tile_px0: float, tile_px: int, scale: int, shared_data: Path) -> None:
    """From 259 pixels that were averaged already to 256 they would differ by 4 to 9 grey levels."""
    with opened(shared_data / "slides" / "CMU-1-Small-Region.svs", tile_px0, tile_px) as (slide, plane):
        assert plane.scale == scale
        side_px = round(tile_px0 / scale)
        x_px, y_px = 200 // scale, 1400 // scale
        ours = resized(plane.read(x_px, y_px, side_px), tile_px).astype(int)
        theirs = resized(slide.read(x_px * scale, y_px * scale, 0, side_px * scale, side_px * scale), tile_px)
        assert np.abs(ours - theirs).mean() < 1


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_level_that_the_scanner_stored_lies_where_level_0_does(level: int, shared_data: Path) -> None:
    """Its pixels differ from level 0's means by 3 to 6 grey levels, for it was coded anew, with losses, but are not moved."""
    factor, side_px = 2**level, 2048 >> level
    with open_slide(shared_data / "slides" / "philips_style_5714_HE_BT_C2.tiff") as slide, slide.path.open("rb") as file:
        stored = JpegPlane(file.fileno(), jpeg_levels(slide)[level], 1)
        found = stored.read(4096 // factor, 4096 // factor, side_px).mean(axis=2)
        means = area_average(slide, stored, 4096 // factor, 4096 // factor, side_px).mean(axis=2)
    (x_px, y_px), _ = cv2.phaseCorrelate(means, found)
    assert max(abs(x_px), abs(y_px)) < 0.05
    assert abs((found - means).mean()) < 0.5
    assert factor == round(stored.level_downsample)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_nothing_is_shifted_by_half_a_pixel(scale: int, tmp_path: Path) -> None:
    y, x = np.mgrid[:1024, :1024]
    waves = 127 + 60 * np.sin(2 * np.pi * x / 64) + 50 * np.sin(2 * np.pi * y / 96)  # a drawn grid, smooth at every scale
    drawn = np.repeat(np.rint(waves).astype(np.uint8)[..., None], 3, axis=2)
    path = write_slide(tmp_path / "s.tiff", drawn, subsampling="444", quality=95, factors=(1,))
    with opened(path, 64.0 * scale, 64) as (_, plane):
        side = 1024 // scale // 2
        found = plane.read(16, 16, side).astype(float)[..., 1]

    def drawn_at(shift_px: float) -> NDArray[np.float64]:
        places = (16 + np.arange(side) + 0.5 + shift_px) * scale - 0.5
        damping = [np.sinc(scale / period) / np.sinc(1 / period) for period in (64, 96)]  # of a wave, by averaging `scale` pixels
        return 127 + damping[0] * 60 * np.sin(2 * np.pi * places / 64)[None, :] + damping[1] * 50 * np.sin(2 * np.pi * places / 96)[:, None]

    shifts = np.linspace(-0.6, 0.6, 61)
    best = shifts[np.argmin([np.abs(found - drawn_at(shift)).mean() for shift in shifts])]
    assert abs(best) < 0.03


def test_a_tile_that_philips_did_not_scan_is_white_and_elsewhere_it_is_unusual(tmp_path: Path) -> None:
    drawn = tissue_like(1000, 700)
    with opened(write_slide(tmp_path / "p.tiff", drawn, kind="philips", missing=(1, 4)), 256.0) as (slide, plane):
        assert (plane.read(256, 0, 256) == 255).all()
        assert (plane.read(200, 200, 300) == slide.read(200, 200, 0, 300, 300)).all()
    with (
        open_slide(write_slide(tmp_path / "g.tiff", drawn, missing=(1,))) as slide,
        pytest.raises(Unusual, match="level 0 has tiles without"),
    ):
        jpeg_levels(slide)


def test_tiles_are_the_same_when_the_next_ones_are_read_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_slide(tmp_path / "p.tiff", tissue_like(1000, 700), kind="philips", missing=(1, 4), tile_px=128, factors=(1,))
    reads, pread = [], os.pread
    monkeypatch.setattr("microtome.jpeg_tiles.os.pread", lambda *asked: (reads.append(asked), pread(*asked))[1])
    with opened(path, 128.0, 128) as (_, plane):
        places = [(row, column) for row in range(6) for column in range(8)]
        one_by_one = [plane.source_jpeg(*place) for place in places]
        assert len(reads) == 46
        for ahead_b, most in ((20_000, 15), (2**20, 1)):
            assert [plane.source_jpeg(*place, ahead_b) for place in places[::-1]] == one_by_one[::-1]
            reads.clear()
            assert [plane.source_jpeg(*place, ahead_b) for place in places] == one_by_one
            assert len(reads) <= most


def counted(plane: JpegPlane) -> list[tuple[int, int]]:
    """The source tiles that the plane decodes from now on, by row and column."""
    found: list[tuple[int, int]] = []
    decode = plane._decode
    plane._decode = lambda jpeg, row, column: (found.append((row, column)), decode(jpeg, row, column))[1]  # type: ignore[func-returns-value, method-assign]
    return found


@pytest.mark.parametrize(("side_px", "step_px"), [(100, 100), (128, 128), (200, 190), (300, 150)])
def test_each_source_tile_is_decoded_once(side_px: int, step_px: int, tmp_path: Path) -> None:
    drawn = tissue_like(1400, 1000)
    path = write_slide(tmp_path / "s.tiff", drawn, tile_px=128, factors=(1,), quality=95, subsampling="444")
    with open_slide(path) as slide, path.open("rb") as file:
        plane = JpegPlane(file.fileno(), jpeg_levels(slide)[0], 1)
        plane.read(600, 500, side_px)  # as `check_agreement` does
        decoded = counted(plane)
        y_px, x_px = (range(5, size - side_px, step_px) for size in drawn.shape[:2])
        for y in y_px:
            for x in x_px:
                assert np.abs(plane.read(x, y, side_px).astype(int) - drawn[y : y + side_px, x : x + side_px]).mean() < 3
        rows, columns = ((of[-1] + side_px - 1) // 128 + 1 for of in (y_px, x_px))
        assert len(decoded) == len(set(decoded)) == rows * columns
        plane.read(600, 500, side_px)
        assert len(decoded) > rows * columns, "rows that are done with are forgotten"


def test_a_slide_whose_rows_would_take_too_much_memory_is_left_to_openslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = np.zeros(391 * 391, np.int64)
    widest = JpegLevel((200_000, 200_000), (512, 512), 391, none, none, b"", 1.0)
    assert rows_b(widest, 1, 512) < 1e9 < MAX_ROWS_B < 2e9, "2 GB a slide at once, says the profile"
    path = write_slide(tmp_path / "s.tiff", tissue_like(700, 500), tile_px=128, factors=(1,))
    with opened(path, 256.0) as (_, plane):
        plane.read(100, 100, 256)
        needed_b = sum(pixels.nbytes for pixels, _ in plane._rows.values())
        assert needed_b == rows_b(plane.level, 1, 256)
    monkeypatch.setattr("microtome.jpeg_tiles.MAX_ROWS_B", needed_b - 1)
    with pytest.raises(Unusual, match=r"0\.0 GB of its JPEG tiles would have to be kept"), opened(path, 256.0):
        pass


def test_levels_that_philips_states_larger_than_they_are(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(3072, 2560), kind="philips", tile_px=512, factors=(1, 2, 4, 8), padded=True)
    with open_slide(path) as slide, path.open("rb") as file:
        levels = jpeg_levels(slide)
        assert [(level.size_px, level.columns) for level in levels] == [
            ((3072, 2560), 6),
            ((1536, 1280), 3),
            ((768, 640), 2),
            ((384, 320), 1),
        ]
        for number, level in enumerate(levels):
            x_px, y_px = level.size_px[0] - 256, level.size_px[1] - 256
            theirs = slide.read(round(x_px * level.downsample), round(y_px * level.downsample), number, 256, 256)
            assert (JpegPlane(file.fileno(), level, 1).read(x_px, y_px, 256) == theirs).all()


def test_the_coarsest_level_and_scale_that_serve_are_taken(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(2048, 2048), kind="aperio", tile_px=240, factors=(1, 4))
    for tile_px0, expected in ((64, (1, 1)), (127.5, (1, 2)), (126, (1, 1)), (191, (1, 1)), (256, (4, 1)), (512, (4, 2)), (600, (4, 1))):
        with opened(path, float(tile_px0), 64) as (_, plane):
            assert (plane.level.downsample, plane.scale) == expected, tile_px0


def test_unusual_slides_are_left_to_openslide(shared_data: Path, tmp_path: Path) -> None:
    def why(path: Path) -> str:
        with open_slide(path) as slide, pytest.raises(Unusual) as caught:
            jpeg_levels(slide)
        return str(caught.value)

    assert why(shared_data / "slides" / "tcga-cr-7395-01a-01-ts1.svs") == "level 0 is not JPEG but APERIO_JP2000_RGB"
    assert why(shared_data / "slides" / "boxes_dcm" / "boxes_0.dcm") == "dicom slides are not JPEG tiles in a TIFF"


def test_wrong_colours_are_noticed(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(1000, 700), coding="rgb")
    with opened(path, 256.0) as (slide, plane):
        check_agreement(plane, slide, 300, 200, 256)
        marker = plane.level.head.index(b"Adobe") + 11
        object.__setattr__(plane.level, "head", plane.level.head[:marker] + b"\x01" + plane.level.head[marker + 1 :])  # says YCbCr
        plane._rows.clear()
        with pytest.raises(Unusual, match=r"its JPEG tiles differ from what OpenSlide reads by \d+.\d grey levels"):
            check_agreement(plane, slide, 300, 200, 256)
