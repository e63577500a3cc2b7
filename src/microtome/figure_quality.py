"""Encoders judged without labels: a panel a measure, along the pseudo-epochs of pretraining, 0 being the same architecture untrained.

Baselines are level lines that end in their mark. Hollow marks have random weights: they are the nulls.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.figure_style import GREY, TWO_COLUMNS_MM, Look, legend_below, looks, new_figure, save, style
from microtome.quality_table import read_measures
from microtome.runs import base_name
from microtome.settings import FiguresSettings

MEASURES = {"rankme": "RankMe", "odcorr": "ODCorr (lower is better)", "knn_accuracy": "k-NN accuracy of the organ"}
HEIGHT_MM = 62.0
LEGEND_ROW_MM = 3.6
STEP = 0.045  # between the marks of two baselines, of the pseudo-epochs' extent


def draw_run(panel: Axes, rows: pd.DataFrame, measure: str, look: Look) -> None:
    """One run's checkpoints joined, from its null on."""
    rows = rows.sort_values("pseudo_epoch")
    x, y = rows["pseudo_epoch"].to_numpy(float), rows[measure].to_numpy(float)
    panel.plot(x, y, color=look.colour, linestyle=look.line, zorder=3)
    for at, value, null in zip(x, y, rows["null"], strict=True):
        panel.plot(at, value, **_mark(look, bool(null)), zorder=4, clip_on=False)


def _mark(look: Look, null: bool) -> dict[str, Any]:
    filled: dict[str, Any] = {"markeredgecolor": look.colour, "markeredgewidth": 0.8, "markerfacecolor": "white" if null else look.colour}
    return {"color": look.colour, "marker": look.marker, "markersize": 3.6, "linestyle": "none", **filled}


def draw_panel(panel: Axes, table: pd.DataFrame, measure: str, look: dict[str, Look]) -> None:
    """One measure of all encoders."""
    runs, baselines = table[table["pseudo_epoch"].notna()], table[table["pseudo_epoch"].isna()]
    last = float(runs["pseudo_epoch"].max()) if len(runs) else 1.0
    for _, of_run in runs.groupby(runs["encoder"].map(base_name), sort=False):
        draw_run(panel, of_run, measure, look[of_run["encoder"].iloc[0]])
    for number, row in enumerate(baselines.to_dict("records")):
        how, end = look[row["encoder"]], last * (1.06 + STEP * number)
        panel.plot([0, end], [row[measure]] * 2, color=how.colour, linewidth=0.6, linestyle=how.line, alpha=0.7, zorder=1)
        panel.plot(end, row[measure], **_mark(how, bool(row["null"])), zorder=4)
    if measure == "knn_accuracy" and table["chance"].notna().all():
        panel.axhline(table["chance"].iloc[0], color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    panel.margins(y=0.08)
    panel.set_xlim(-0.04 * last, last * (1.1 + STEP * max(0, len(baselines) - 1)))
    panel.set_xlabel("pseudo-epoch" if len(runs) else "")
    ticks = np.asarray(MaxNLocator(5, integer=True).tick_values(0, last))
    panel.set_xticks(ticks[(ticks >= 0) & (ticks <= last)] if len(runs) else [])
    panel.set_ylim(bottom=max(0.0, panel.get_ylim()[0]))
    panel.set_title(MEASURES[measure])


def draw(table: pd.DataFrame, settings: FiguresSettings) -> Figure:
    """The figure of the rows of `read_measures`."""
    encoders = list(table["encoder"])
    look = looks([*settings.labels, *encoders])
    handles, names = _entries(table, look)
    with style():
        figure = new_figure(TWO_COLUMNS_MM, HEIGHT_MM + LEGEND_ROW_MM * (-(-len(names) // 4)))
        for panel, measure in zip(np.ravel(figure.subplots(1, len(MEASURES))), MEASURES, strict=True):
            draw_panel(panel, table, measure, look)
        legend_below(figure, handles, names, TWO_COLUMNS_MM)
    return figure


def _entries(table: pd.DataFrame, look: dict[str, Look]) -> tuple[list[Line2D], list[str]]:
    """A legend entry for each run and baseline, for what is hollow, and for chance."""
    of_name = table[~table["null"] | table["pseudo_epoch"].isna()].drop_duplicates("encoder")
    of_name = of_name.assign(name=of_name["encoder"].map(base_name)).drop_duplicates("name")
    handles, names = [], []
    for row in of_name.to_dict("records"):
        how, is_run = look[row["encoder"]], not pd.isna(row["pseudo_epoch"])
        line: dict[str, Any] = {"linestyle": how.line, "linewidth": 1.1 if is_run else 0.6}
        handles.append(Line2D([], [], **{**_mark(how, bool(row["null"])), **line}))
        names.append(row["name"] if is_run else row["label"])
    if table["null"].any():
        handles.append(Line2D([], [], **_mark(Look(GREY, "-", "o"), null=True)))
        names.append("hollow: random weights (null)")
    if table["chance"].notna().all():
        handles.append(Line2D([], [], color="0.6", linewidth=0.8, linestyle=":"))
        names.append(f"chance (1 of {table['organs'].iloc[0]} organs)")
    return handles, names


def figure_quality(measures: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the label-free measures of all encoders, checkpoints and nulls."""
    table = read_measures(measures, settings.labels)
    save(draw(table, settings), pdf, png)
    write_text(csv, table.to_csv(index=False))


if __name__ == "__main__":
    run(figure_quality)
