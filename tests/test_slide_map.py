"""Maps over a slide: the part that its tiles take, read where it is, and each tile's colour where the tile is."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from microtome.slide_map import COLOUR, LIGHT, outline, painted, part_of, picture, scale_bar
from microtome.tile_sheet import page, put
from tests.drawn_slides import tissue_like, write_slide
from tests.figure_checks import texts


def test_the_part_is_that_of_the_tiles_with_a_margin_within_the_slide(tmp_path: Path) -> None:
    level0 = tissue_like(1200, 900)
    write_slide(tmp_path / "slide.tiff", level0)
    coords_px0 = np.array([[300, 200], [700, 500]])
    part = part_of(coords_px0, 100.0, (1200, 900), 150)
    assert part.origin_px0 == (200, 100)
    assert part.size_px0 == (700, 600)
    assert part.size_px == (150, 129)
    seen, gone = picture(tmp_path / "slide.tiff", part)
    assert gone == ""
    expected = np.asarray(Image.fromarray(level0[100:700, 200:900]).resize((150, 129), Image.Resampling.BOX)).astype(int)
    assert np.abs(seen - expected).mean() < 3  # JPEG, and a coarser level
    edge = part_of(np.array([[0, 0], [1150, 850]]), 100.0, (1200, 900), 60)
    assert (edge.origin_px0, edge.size_px0) == ((0, 0), (1200, 900))


def test_a_slide_that_is_gone_is_white_and_says_why(tmp_path: Path) -> None:
    part = part_of(np.array([[0, 0]]), 100.0, (1000, 500), 80)
    seen, gone = picture(tmp_path / "archived.tiff", part)
    assert (seen == 255).all()
    assert seen.shape == (80, 80, 3)
    assert gone == f"no such file: {tmp_path / 'archived.tiff'}"
    (tmp_path / "cut.tiff").write_bytes(b"II*\0" + bytes(20))
    assert picture(tmp_path / "cut.tiff", part)[1] != ""


def test_each_tile_has_its_colour_over_light_grey() -> None:
    part = part_of(np.array([[100, 0], [200, 0], [300, 100]]), 100.0, (1000, 1000), 50)  # 10 level-0 px a px, from x = 0, y = 0
    assert part.downsample == pytest.approx(10)
    under = np.zeros((*part.size_px[::-1], 3), np.uint8)
    under[:, 25:] = 255
    colours = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    seen = painted(under, part, np.array([[100, 0], [200, 0], [300, 100]]), 100.0, colours)
    assert seen[5, 5] == pytest.approx([LIGHT] * 3)
    assert seen[5, 45] == pytest.approx([1.0] * 3)
    for (x, y), colour, grey in (((15, 5), colours[0], LIGHT), ((28, 5), colours[1], 1.0), ((35, 15), colours[2], 1.0)):
        assert seen[y, x] == pytest.approx(COLOUR * colour + (1 - COLOUR) * grey)
    red = seen[..., 0] > seen[..., 1] + 0.1
    assert np.argwhere(red).min(axis=0).tolist() == [0, 10]
    assert np.argwhere(red).max(axis=0).tolist() == [9, 19]


@pytest.mark.parametrize(("mpp", "text"), [(0.5, "0.2 mm"), (0.25, "0.1 mm"), (float("nan"), None)])
def test_the_bar_is_as_long_as_it_says(mpp: float, text: str | None) -> None:
    part = part_of(np.array([[0, 0], [1900, 900]]), 100.0, (2000, 1000), 200)
    figure = page(400, 300)
    axes = put(figure, np.ones((*part.size_px[::-1], 3)), 50, 50, 1)
    scale_bar(axes, part, mpp)
    outline(axes, part, np.array([[1900, 900]]), 100.0, "red")
    assert [shown for shown, _ in texts(figure)] == ([text] if text else [])
    if text:
        (bar,) = axes.lines
        length_px = np.ptp(np.asarray(bar.get_xdata(), dtype=float))
        assert length_px * part.downsample * mpp / 1000 == pytest.approx(float(text.split()[0]))
    box = axes.patches[0].get_window_extent()
    assert (box.width, box.x1) == pytest.approx((10, 250))
    assert mpl.colors.to_hex(axes.patches[0].get_edgecolor()) == "#ff0000"
