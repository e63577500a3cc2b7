"""Figure 1: the training loss of each run, a panel a run, since losses of different methods share no scale.

Along x: pseudo-epochs (below), optimizer steps (further below) and ImageNet epochs of 1,281,167 images (above). The line is the mean loss
of up to `MAX_BINS` equal shares of the steps; points are means over whole pseudo-epochs, drawn at their middle.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.errors import UserError
from microtome.figure_style import COLOURS, GREY, TWO_COLUMNS_MM, hide_unused, legend_below, new_figure, save, style
from microtome.settings import FiguresSettings

MAX_BINS = 400
COLUMNS = ["step", "pseudo_epoch", "imagenet_epochs", "loss"]
PANEL_HEIGHT_MM = 62.0
# A demo's pseudo-epoch is a thousandth of an ImageNet epoch: its ticks would read 0.00025, 0.0005, ...
IMAGENET = [(1.0, "ImageNet epochs"), (1e-3, "thousandths of an ImageNet epoch"), (1e-6, "millionths of an ImageNet epoch")]


def read_curves(paths: list[Path]) -> pd.DataFrame:
    """The curves of `pretrain/{run}/{pseudo_epoch}/curve.csv`, one after the other: run + `COLUMNS`, a row a logged step."""
    if not paths:
        raise UserError("--curves: found none, expected the curve.csv of at least one pseudo-epoch. Configure a run under pretrain.runs.")
    curves = pd.concat([pd.read_csv(path)[COLUMNS].assign(run=path.parent.parent.name) for path in paths])
    return curves.sort_values("step", kind="stable").sort_values("run", kind="stable", key=lambda run: run.map(_order(paths)))


def _order(paths: list[Path]) -> dict[str, int]:
    return {name: i for i, name in enumerate(dict.fromkeys(path.parent.parent.name for path in paths))}


def drawn(curves: pd.DataFrame) -> pd.DataFrame:
    """What is drawn: run, series ("share of steps" or "pseudo-epoch"), step, pseudo_epoch, imagenet_epochs (means within), loss (mean)."""
    parts = []
    for name, curve in curves.groupby("run", sort=False):
        share = np.arange(len(curve)) * min(MAX_BINS, len(curve)) // len(curve)
        whole = np.ceil(curve["pseudo_epoch"].to_numpy() - 1e-9).astype(int)
        for series, group in (("share of steps", share), ("pseudo-epoch", whole)):
            parts.append(curve[COLUMNS].groupby(group).mean().assign(run=name, series=series))
    return pd.concat(parts, ignore_index=True)[["run", "series", *COLUMNS]]


def draw_panel(panel: Axes, curve: pd.DataFrame, colour: str) -> None:
    """One run: `curve` has the rows of `drawn` of that run."""
    line, points = (curve[curve["series"] == series] for series in ("share of steps", "pseudo-epoch"))
    panel.plot(line["pseudo_epoch"], line["loss"], color=colour, linewidth=0.7, alpha=0.55)
    panel.plot(points["pseudo_epoch"], points["loss"], "o", color=colour, markersize=2.8)
    panel.set_title(str(curve["run"].iloc[0]))
    panel.set_xlabel("pseudo-epochs")
    panel.set_ylabel("training loss")
    panel.set_xlim(left=0)
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    last = line.iloc[-1]
    images, steps = last["imagenet_epochs"] / last["pseudo_epoch"], last["step"] / last["pseudo_epoch"]
    above = panel.secondary_xaxis("top", functions=(lambda x: x * images, lambda x: x / images))
    per, name = next((unit for unit in IMAGENET if last["imagenet_epochs"] >= 0.05 * unit[0]), IMAGENET[-1])
    above.set_xlabel(name)
    above.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / per:g}"))
    below = panel.secondary_xaxis(-0.28, functions=(lambda x: x * steps, lambda x: x / steps))
    below.set_xlabel("steps")
    below.xaxis.set_major_formatter(EngFormatter(sep=""))
    above.xaxis.set_major_locator(MaxNLocator(5))
    below.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def draw(table: pd.DataFrame) -> Figure:
    """The figure of the rows of `drawn`."""
    runs = list(table["run"].unique())
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    with style():
        width_mm = TWO_COLUMNS_MM * min(1.0, 0.5 * columns)
        figure = new_figure(width_mm, PANEL_HEIGHT_MM * rows)
        panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for i, name in enumerate(runs):
            draw_panel(panels[i], table[table["run"] == name], COLOURS[i % len(COLOURS)])
        hide_unused(panels, len(runs))
        marks = [Line2D([], [], color=GREY, linewidth=0.7), Line2D([], [], color=GREY, linestyle="", marker="o", markersize=2.8)]
        legend_mm = legend_below(figure, marks, ["loss", "its mean over a pseudo-epoch"], width_mm)
        figure.set_figheight((PANEL_HEIGHT_MM * rows + legend_mm + 4) / 25.4)
    return figure


def figure_pretraining(curves: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the training loss of every run."""
    table = drawn(read_curves(curves))
    save(draw(table), pdf, png)
    write_text(csv, table.to_csv(index=False))


if __name__ == "__main__":
    run(figure_pretraining)
