"""Encoders in pairs: the difference of their validation AUCs on the same splits, with the interval of the corrected resampled t-test.

Of more than `MAX_PAIRS` pairs those with the first encoder of the configuration are shown; the adjustment (Holm) is for all pairs of the
task, and the CSV has them all, with a column that says which are shown. A run stands for itself with its last checkpoint. p values are
adjusted, intervals are not: one that leaves out 0 can belong to a hollow mark.
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
from microtome.comparisons import aucs_on_the_same_slides, pairwise, val_over_train
from microtome.figure_style import ONE_COLUMN_MM, TWO_COLUMNS_MM, hide_unused, legend_below, new_figure, save, style
from microtome.runs import labelled
from microtome.settings import FiguresSettings

MAX_PAIRS = 15
SIGNIFICANT = 0.05
CIRCLE: dict[str, Any] = {"marker": "o", "markersize": 3.6, "markeredgecolor": "black", "markeredgewidth": 0.7}
MARKS: dict[str, dict[str, Any]] = {
    f"Holm-adjusted p < {SIGNIFICANT}": {**CIRCLE, "markerfacecolor": "black"},
    f"Holm-adjusted p ≥ {SIGNIFICANT}": {**CIRCLE, "markerfacecolor": "white"},
    "no test: every split differs by the same": {"marker": "x", "markersize": 3.6, "linestyle": "none"},  # and no interval
}
ROW_MM, MARGINS_MM = 4.2, 16.0
TASKS_A_ROW = 2
SHORT = 34  # letters of a pair beside which one column of a journal has room


def drawn(aucs: pd.DataFrame, splits: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What is drawn: the rows of `comparisons.pairwise` and shown, a boolean; none of one encoder.

    Args:
        aucs: of `comparisons.aucs_on_the_same_slides`. splits: splits/{task}.csv by task.
    """
    encoders = aucs["encoder"].unique()
    pairs = pairwise(aucs, {task: val_over_train(table) for task, table in splits.items()})
    few = len(encoders) * (len(encoders) - 1) // 2 <= MAX_PAIRS
    return pairs.assign(shown=few | (pairs["first"] == encoders[0]))


def mark_of(p_holm: float) -> str:
    """The entry of the legend that a pair's adjusted p value has."""
    found, unsure, untested = MARKS
    return untested if np.isnan(p_holm) else found if p_holm < SIGNIFICANT else unsure


def draw_panel(panel: Axes, rows: pd.DataFrame) -> None:
    """One task: `rows` has its pairs in order, marked by `mark_of`; where an interval goes on beyond the panel, an arrow says so."""
    panel.axvline(0, color="0.4", linewidth=0.8, zorder=1)
    for y, row in enumerate(rows.to_dict("records")):
        panel.plot([row["low"], row["high"]], [y, y], color="black", linewidth=0.9, solid_capstyle="butt")
        panel.plot(row["difference"], y, color="black", **MARKS[mark_of(row["p_holm"])])
    left, right = panel.get_xlim()
    left, right = max(left, -1), min(right, 1)  # of few splits, an interval can reach beyond what an AUC can differ
    panel.set_xlim(left, right)
    for end, beyond, arrow in ((left, rows["low"] < left, "<"), (right, rows["high"] > right, ">")):
        if beyond.any():  # a line of no points that is not clipped would undo the layout
            panel.plot([end] * int(beyond.sum()), np.flatnonzero(beyond), arrow, color="black", markersize=3, clip_on=False)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0, pad=5)  # beside an arrow
    panel.grid(axis="x", color="0.9", linewidth=0.5)
    panel.set_axisbelow(True)


def draw(table: pd.DataFrame, settings: FiguresSettings) -> Figure:
    """The figure of the rows of `drawn` that are shown."""
    shown = table[table["shown"]]
    if shown.empty:
        return _nothing_to_compare()
    tasks = list(shown["task"].unique())
    columns = min(TASKS_A_ROW, len(tasks))
    rows = -(-len(tasks) // columns)
    labels = [
        f"{labelled(one, settings.labels)} − {labelled(other, settings.labels)}"
        for one, other in zip(shown["first"], shown["second"], strict=True)
    ]
    shown = shown.assign(label=labels)
    width_mm = ONE_COLUMN_MM if columns == 1 and max(map(len, labels)) <= SHORT else TWO_COLUMNS_MM
    pairs = int(shown.groupby("task").size().max())
    with style():
        figure = new_figure(width_mm, rows * (MARGINS_MM + ROW_MM * pairs) + 8)
        panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for i, task in enumerate(tasks):
            of_task = shown[shown["task"] == task]
            draw_panel(panels[i], of_task)
            panels[i].set_yticks(range(len(of_task)), of_task["label"] if i % columns == 0 else [""] * len(of_task))
            panels[i].set_title(task)
            panels[i].set_xlabel("difference of validation AUC")
        hide_unused(panels, len(tasks))
        used = [name for name in MARKS if name in {*list(MARKS)[:2], *map(mark_of, shown["p_holm"])}]
        handles = [Line2D([], [], color="black", linewidth=0.9, **MARKS[name]) for name in used]
        legend_below(figure, handles, used, width_mm)
    return figure


def _nothing_to_compare() -> Figure:
    with style():
        figure = new_figure(ONE_COLUMN_MM, MARGINS_MM)
        figure.text(0.5, 0.5, "There is one encoder: nothing to compare.", ha="center", va="center")
    return figure


def figure_differences(predictions: list[Path], splits: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the encoders of every task in pairs."""
    table = drawn(aucs_on_the_same_slides(predictions), {path.stem: pd.read_csv(path) for path in splits})
    save(draw(table, settings), pdf, png)
    write_text(csv, table.to_csv(index=False))


if __name__ == "__main__":
    run(figure_differences)
