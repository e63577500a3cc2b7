"""A page of tiles: every pixel of a tile is there, with its own value, in the place and the size that were asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microtome.figure_style import save
from microtome.tile_sheet import enlargement, fitted, frame, page, put, text_px, write
from tests.figure_checks import assert_saved, texts


@pytest.mark.parametrize(("width_px", "factor"), [(311, 1), (1001, 3), (2161, 4)])
def test_pixels_are_the_tiles_own(width_px: int, factor: int, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 41, 3), dtype=np.uint8)
    figure = page(width_px, 400)
    put(figure, image, 113, 57, factor)
    frame(figure, (113, 57, 41 * factor, 37 * factor), "#ff0000", 2)
    write(figure, "above", 113, 40)
    save(figure, tmp_path / "a.pdf", tmp_path / "a.png")
    assert_saved(tmp_path / "a.pdf", tmp_path / "a.png")
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert drawn.shape == (400, width_px, 3)
    large = image.repeat(factor, axis=0).repeat(factor, axis=1)
    assert (drawn[57 : 57 + len(large), 113 : 113 + large.shape[1]] == large).all()
    for column in (111, 114 + large.shape[1]):
        assert (drawn[60, column] == (255, 0, 0)).all()  # between it and the tile, a hairline
    assert (drawn[300:, :100] == 255).all()


def test_the_width_of_a_text_is_that_which_is_drawn() -> None:
    figure = page(600, 100)
    write(figure, "reconstructed", 10, 50)
    (_, box), *_ = texts(figure)
    assert text_px(["crop", "reconstructed"]) == pytest.approx(box.width, abs=4)
    assert text_px([""]) == 0


def test_a_text_is_cut_off_where_it_is_too_wide_and_not_before() -> None:
    text = "skin and subcutaneous tissue"
    assert fitted(text, text_px([text])) == text
    short = fitted(text, text_px([text]) - 5)
    assert short.endswith("…")
    assert text_px([short]) <= text_px([text]) - 5
    assert fitted(text, 1) == "…"


def test_a_whole_factor_fills_the_limit() -> None:
    assert [enlargement(300, limit) for limit in (299, 300, 899, 900.5)] == [1, 1, 2, 3]
