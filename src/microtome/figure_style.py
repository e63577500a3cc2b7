"""How every figure looks: journal column widths, a sans font of 7 pt, colours that the colour-blind tell apart, and files that are the
same bytes for the same numbers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from microtome.atomic import atomic_path
from microtome.runs import base_name

Line = Literal["-"] | tuple[float, Sequence[float]]

ONE_COLUMN_MM = 89.0
TWO_COLUMNS_MM = 183.0
PAGE_MM = 240.0  # as high as a figure may be
MARGIN_IN = 0.05
DPI = 300
MANY = 5  # encoders of one panel of ROC or calibration, beyond which bands and bars hide each other and only lines are drawn
GREY = "0.55"
# Okabe and Ito 2008, without the yellow that a thin line loses on white. Dashes and markers differ beside colours, for print without them.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
LINES: list[Line] = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2))]
MARKERS = ["o", "s", "^", "D"]
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.linewidth": 0.5,
    "axes.edgecolor": "0.3",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.color": "0.3",
    "ytick.color": "0.3",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "pdf.fonttype": 42,  # fonts as outlines that an editor can change
    "svg.hashsalt": "microtome",
}


@dataclass(frozen=True)
class Look:
    """What an encoder is drawn with in every figure."""

    colour: str
    line: Line
    marker: str


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, for as long as the context lasts."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # the stubs want a literal of every key
        yield


def looks(encoders: Sequence[str]) -> dict[str, Look]:
    """A look for each encoder or checkpoint id, in order; the checkpoints of a run share one."""
    names = list(dict.fromkeys(base_name(encoder) for encoder in encoders))
    # 7 colours and 4 dashes have no common factor: 28 encoders before a look comes again.
    by_name = {name: Look(COLOURS[i % len(COLOURS)], LINES[i % len(LINES)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}
    return {encoder: by_name[base_name(encoder)] for encoder in encoders}


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """An empty figure that lays itself out so that nothing overlaps."""
    layout = ConstrainedLayoutEngine(w_pad=MARGIN_IN, h_pad=MARGIN_IN, wspace=0.02, hspace=0.03)
    return Figure(figsize=(width_mm / 25.4, height_mm / 25.4), layout=layout)


def legend_below(figure: Figure, handles: Sequence[object], labels: Sequence[str], width_mm: float) -> float:
    """One legend under all panels, in as many columns as fit into the figure's width; its height in mm."""
    widest_px = (width_mm / 25.4 - 2 * MARGIN_IN) * figure.dpi
    spaces = {"borderpad": 0, "handletextpad": 0.6, "columnspacing": 1.4}
    columns = max(1, len(labels))
    while True:
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, **spaces)  # type: ignore[call-overload]
        if columns == 1 or legend.get_window_extent().width <= widest_px:
            return float(legend.get_window_extent().height / figure.dpi * 25.4)
        legend.remove()
        columns -= 1


def panel_grid(panels: int, a_row: int) -> tuple[int, int, float]:
    """Columns, rows and width in mm of a figure of `panels`, at most `a_row` side by side: a journal's column for one, else its page."""
    columns = min(a_row, panels)
    return columns, -(-panels // columns), ONE_COLUMN_MM if columns == 1 else TWO_COLUMNS_MM


def hide_unused(panels: Sequence[Axes], used: int) -> None:
    """Remove the panels of a grid that nothing was drawn in."""
    for panel in panels[used:]:
        panel.remove()


def settle(figure: Figure) -> None:
    """Lay a figure out, once for all files. A second pass finds room for axes beside axes, which the first does not know yet."""
    for _ in range(2):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save(figure: Figure, pdf: Path, png: Path) -> None:
    """Write a figure as PDF and PNG, each whole or not at all, without the time at which it was made."""
    with style():
        settle(figure)
        with atomic_path(pdf) as part:
            figure.savefig(part, format="pdf", metadata={"CreationDate": None})
        with atomic_path(png) as part:
            figure.savefig(part, format="png", dpi=DPI)
