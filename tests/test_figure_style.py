"""How figures look: encoders told apart, by the colour-blind too; sizes in mm; the same bytes for the same numbers."""

from itertools import combinations
from pathlib import Path

import cv2
import matplotlib as mpl
import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from microtome.figure_style import (
    COLOURS,
    LINES,
    ONE_COLUMN_MM,
    TWO_COLUMNS_MM,
    hide_unused,
    legend_below,
    looks,
    new_figure,
    panel_grid,
    save,
    style,
)
from tests.figure_checks import assert_readable, assert_saved

BLIND = {  # Machado et al. 2009, severity 1: linear RGB as it is seen
    "nobody": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def test_twenty_eight_encoders_look_different_and_a_runs_checkpoints_alike() -> None:
    encoders = [f"e{i}" for i in range(len(COLOURS) * len(LINES))]
    found = looks([f"{encoder}@{epoch}" for encoder in encoders for epoch in (1, 25)])
    assert len({(look.colour, look.line) for look in found.values()}) == 28  # curves
    assert len({(look.colour, look.marker) for look in found.values()}) == 28  # points
    assert all(found[f"{encoder}@1"] == found[f"{encoder}@25"] for encoder in encoders)
    assert found["e0@1"] == looks(["e0"])["e0"]
    more = looks([*encoders, "one more"])
    assert more["one more"] == more["e0"]  # what nobody could tell apart any more
    assert looks([]) == {}
    first = [found[f"{encoder}@1"] for encoder in encoders[:4]]
    assert len({str(look.line) for look in first}) == len({look.marker for look in first}) == 4, "in print without colours, too"


@pytest.mark.parametrize("kind", BLIND)
def test_colours_are_told_apart(kind: str) -> None:
    srgb = np.array([matplotlib.colors.to_rgb(colour) for colour in COLOURS])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.asarray(BLIND[kind]).T, 0, 1).astype(np.float32)
    lab = cv2.cvtColor(seen[None], cv2.COLOR_LRGB2Lab)[0]
    assert min(np.linalg.norm(lab[i] - lab[j]) for i, j in combinations(range(len(COLOURS)), 2)) > 10  # 2.3 is just seen


@pytest.mark.parametrize(("panels", "a_row"), [(1, 1), (1, 3), (2, 3), (3, 3), (4, 3), (7, 3), (7, 2)])
def test_a_grid_holds_its_panels_and_fits_the_page(panels: int, a_row: int) -> None:
    columns, rows, width_mm = panel_grid(panels, a_row)
    assert columns <= a_row
    assert (rows - 1) * columns < panels <= rows * columns
    assert width_mm == (ONE_COLUMN_MM if columns == 1 else TWO_COLUMNS_MM)
    figure = new_figure(width_mm, 60)
    assert figure.get_size_inches() * 25.4 == pytest.approx([width_mm, 60])
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    hide_unused(axes, panels)
    assert figure.axes == axes[:panels].tolist()


def test_texts_that_nearly_touch_are_not_readable() -> None:
    def with_texts(apart_pt: float) -> Figure:
        figure = new_figure(ONE_COLUMN_MM, 40)
        figure.text(0.5, 0.5, "50", ha="right")
        figure.text(0.5 + apart_pt / 72 / figure.get_figwidth(), 0.5, "baselines", ha="left")
        for n, place in enumerate((0.2, 0.7, 0.9)):
            figure.text(0.1, place, f"text {n}")
        return figure

    with style():
        assert_readable(with_texts(3))
        with pytest.raises(AssertionError, match="nearly touch"):
            assert_readable(with_texts(1))


@pytest.mark.parametrize("longest", [3, 45])
def test_a_legend_of_many_labels_stays_on_the_page(longest: int) -> None:
    with style():
        figure = new_figure(ONE_COLUMN_MM, 120)
        axes = figure.subplots()
        names = [f"{i:0>{longest}}" for i in range(11)]
        lines = [axes.plot([0, i], color=look.colour, linestyle=look.line)[0] for i, look in enumerate(looks(names).values())]
        legend_below(figure, lines, names, ONE_COLUMN_MM)
        assert_readable(figure)


def test_the_style_ends_with_its_context() -> None:
    before = dict(mpl.rcParams)
    with style():
        assert mpl.rcParams["font.size"] == 7
    assert dict(mpl.rcParams) == before


def test_the_same_numbers_are_the_same_bytes_at_300_dpi(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with style():
            figure = new_figure(ONE_COLUMN_MM, 50)
            figure.subplots().plot([0, 1], [1, 3])
        save(figure, tmp_path / f"{name}.pdf", tmp_path / f"{name}.png")
    assert_saved(tmp_path / "a.pdf", tmp_path / "a.png")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (round(ONE_COLUMN_MM / 25.4 * 300 - 0.5), round(50 / 25.4 * 300 - 0.5))
    assert len(list(tmp_path.iterdir())) == 4
    assert plt.get_fignums() == []  # nothing that pyplot would keep for ever
