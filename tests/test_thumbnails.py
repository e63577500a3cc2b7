"""Thumbnails against the mean of what was drawn, from the level that serves; overlays and their contact sheet."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microtome.grid import tile_grid
from microtome.slides import open_slide
from microtome.thumbnails import OUTLINE, contact_sheet, jpeg, overlay, read_thumbnail, write_contact_sheets
from tests.drawn_slides import tissue_like, write_slide
from tests.stage_settings import tissue_settings


def test_the_thumbnail_is_the_mean_and_comes_from_the_coarsest_level_that_serves(tmp_path: Path) -> None:
    drawn = tissue_like(1500, 1200, seed=5)
    with open_slide(write_slide(tmp_path / "s.tiff", drawn, 0.5, subsampling="444", quality=98)) as slide:
        places = tile_grid(1500, 1200, 0.5, tissue_settings(grid={"tile_px": 64}).grid)
        levels = []
        read = slide.read
        slide.read = lambda x, y, level, width, height: (levels.append(level), read(x, y, level, width, height))[1]  # type: ignore[method-assign]
        extent_px0 = places.columns * places.cell_px0[0], places.rows * places.cell_px0[1]
        found = read_thumbnail(slide, extent_px0, 150, 120)
    assert set(levels) == {2}
    expected = drawn.reshape(120, 10, 150, 10, 3).mean(axis=(1, 3))
    assert np.abs(found - expected).mean() < 1.5


@pytest.mark.parametrize("block_px", [97, 500, 4096])
def test_a_thumbnail_read_in_blocks_is_the_same(block_px: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_slide(write_slide(tmp_path / "s.tiff", tissue_like(1111, 777, seed=5), factors=(1,))) as slide:
        whole = read_thumbnail(slide, (1111.0, 777.0), 60, 41)
        monkeypatch.setattr("microtome.thumbnails.BLOCK_PX", block_px)
        in_blocks = read_thumbnail(slide, (1111.0, 777.0), 60, 41)
    assert np.abs(in_blocks.astype(int) - whole).mean() < 0.2  # a pixel whose centre is on a cell's edge may fall to either side


def test_a_part_of_a_slide_is_what_is_there(tmp_path: Path) -> None:
    drawn = tissue_like(600, 500, seed=2)
    with open_slide(write_slide(tmp_path / "s.tiff", drawn, factors=(1,), subsampling="444", quality=98)) as slide:
        found = read_thumbnail(slide, (200.0, 100.0), 20, 10, origin_px0=(150.0, 250.0))
        expected = drawn[250:350, 150:350].reshape(10, 10, 20, 10, 3).mean(axis=(1, 3))
        assert expected.std() > 5, "tissue"
        assert np.abs(found - expected).max() < 3
        assert read_thumbnail(slide, (600.0, 500.0), 1, 1).shape == (1, 1, 3)
        assert np.abs(read_thumbnail(slide, (600.0, 500.0), 1, 1) - drawn.mean(axis=(0, 1))).max() < 1


def test_an_overlay_leaves_tissue_as_it_is_and_veils_the_rest() -> None:
    picture = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((6, 8), bool)
    mask[1:5, 2:6] = True
    found = overlay(picture, mask)
    assert (found[20:40, 30:50] == 100).all(), "inside"
    assert (found[:8] == int(100 * 0.55 + 255 * 0.45)).all(), "outside"
    assert (found[10, 20:60] == OUTLINE).all(), "the mask's edge"
    assert (picture == 100).all(), "the picture given is not drawn on"
    assert (overlay(picture, np.ones((6, 8), bool))[5:-5, 5:-5] == 100).all()


@pytest.mark.parametrize(("slides", "columns", "rows"), [(0, 1, 1), (1, 1, 1), (12, 12, 1), (13, 12, 2)])
def test_a_contact_sheet_has_a_cell_a_slide(slides: int, columns: int, rows: int, tmp_path: Path) -> None:
    (tmp_path / "dark.jpg").write_bytes(jpeg(np.zeros((400, 300, 3), np.uint8)))
    shown = [(f"s{number}", "", tmp_path / "dark.jpg") for number in range(slides)]
    sheet = Image.open(io.BytesIO(contact_sheet(shown)))
    assert sheet.size == (220 * columns, (220 + 18) * rows)
    for number in range(columns * rows):
        left, top = number % columns * 220, number // columns * 238
        cell = np.asarray(sheet)[top + 20 : top + 218, left + 4 : left + 150]
        assert (cell.mean() < 5) if number < slides else (cell.mean() > 250)


def test_a_slide_without_an_overlay_says_why(tmp_path: Path) -> None:
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet([("s", "no tissue found " * 40, tmp_path / "none.jpg")])))).astype(int)
    red = (sheet[..., 0] - sheet[..., 1:].max(axis=2)) > 60
    assert red[18:40].any()
    assert not red[:18].any()
    (tmp_path / "none.jpg").write_bytes(jpeg(np.full((300, 300, 3), 240, np.uint8)))
    over = np.asarray(Image.open(io.BytesIO(contact_sheet([("s", "empty: no tissue found", tmp_path / "none.jpg")])))).astype(int)
    assert ((over[..., 0] - over[..., 1:].max(axis=2)) > 60)[18:40].any(), "over the picture, where there is one"


def test_a_note_is_broken_between_words(tmp_path: Path) -> None:
    """The first line of a note is what it would be if the word that does not fit were not there."""
    notes = ["in the slide table's column called mpp", "in the slide table's column called"]  # 38 letters and 34
    sheets = [np.asarray(Image.open(io.BytesIO(contact_sheet([("s", note, tmp_path / "none.jpg")])))) for note in notes]
    first_line, second_line = slice(18, 34), slice(34, 48)
    assert ((sheets[0] < 128) == (sheets[1] < 128))[first_line].all()
    assert (sheets[0] < 128)[second_line].any()
    assert not (sheets[1] < 128)[second_line].any()


def test_many_slides_have_several_sheets_and_no_more_than_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microtome.thumbnails.SHEET_SLIDES", 2)
    shown = [(f"s{number}", "no tissue found", tmp_path / "none.jpg") for number in range(5)]
    for slides, sheets in ((5, 3), (2, 1), (0, 1)):
        write_contact_sheets(shown[:slides], tmp_path)
        names = ["_contact_sheet.jpg", "_contact_sheet_2.jpg", "_contact_sheet_3.jpg"][:sheets]
        assert sorted(path.name for path in tmp_path.iterdir()) == names
