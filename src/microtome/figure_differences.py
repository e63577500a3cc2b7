"""Encoders in pairs: the difference of their validation AUCs on the same splits, with the interval of the corrected resampled t-test.

Of more than `MAX_PAIRS` pairs those with the first encoder of the configuration are shown; the adjustment (Holm) is for all pairs of the
task, and the CSV has them all, with a column that says which are shown. A run stands for itself with its last checkpoint.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.comparisons import pairwise, val_over_train
from microtome.figure_style import ONE_COLUMN_MM, TWO_COLUMNS_MM, hide_unused, legend_below, new_figure, save, style
from microtome.runs import final_auc, labelled, last_checkpoints, read_runs
from microtome.settings import FiguresSettings

MAX_PAIRS = 15
SIGNIFICANT = 0.05
ROW_MM, MARGINS_MM = 4.2, 16.0
TASKS_A_ROW = 2


def drawn(runs: pd.DataFrame, splits: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What is drawn: the rows of `comparisons.pairwise` and shown, a boolean; none of one encoder. `splits`: splits/{task}.csv by task."""
    encoders = last_checkpoints(runs["encoder"].unique())
    aucs = final_auc(runs[runs["encoder"].isin(encoders)])
    pairs = pairwise(aucs, {task: val_over_train(table) for task, table in splits.items()})
    few = len(encoders) * (len(encoders) - 1) // 2 <= MAX_PAIRS
    return pairs.assign(shown=few | (pairs["first"] == encoders[0]))


def draw_panel(panel: Axes, rows: pd.DataFrame) -> None:
    """One task: `rows` has its pairs in order; filled marks differ at Holm-adjusted p < `SIGNIFICANT`."""
    panel.axvline(0, color="0.4", linewidth=0.8, zorder=1)
    for y, row in enumerate(rows.to_dict("records")):
        panel.plot([row["low"], row["high"]], [y, y], color="black", linewidth=0.9, solid_capstyle="butt")
        filled = "black" if row["p_holm"] < SIGNIFICANT else "white"
        panel.plot(row["difference"], y, "o", markersize=3.6, markerfacecolor=filled, markeredgecolor="black", markeredgewidth=0.7)
    left, right = panel.get_xlim()
    panel.set_xlim(max(left, -1), min(right, 1))  # of few splits, an interval can reach beyond what an AUC can differ
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
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
    width_mm = TWO_COLUMNS_MM if columns > 1 else 1.3 * ONE_COLUMN_MM
    pairs = int(shown.groupby("task").size().max())
    with style():
        figure = new_figure(width_mm, rows * (MARGINS_MM + ROW_MM * pairs) + 8)
        panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for i, task in enumerate(tasks):
            of_task = shown[shown["task"] == task]
            draw_panel(panels[i], of_task)
            names = [[labelled(str(name), settings.labels) for name in of_task[side]] for side in ("first", "second")]
            labels = [f"{first} − {second}" for first, second in zip(*names, strict=True)]
            panels[i].set_yticks(range(len(of_task)), labels if i % columns == 0 else [""] * len(of_task))
            panels[i].set_title(task)
            panels[i].set_xlabel("difference of validation AUC")
        hide_unused(panels, len(tasks))
        marks = {f"Holm-adjusted p < {SIGNIFICANT}": "black", f"p ≥ {SIGNIFICANT}": "white"}
        handles = [
            Line2D([], [], marker="o", color="black", markerfacecolor=fill, markersize=3.6, linewidth=0.9) for fill in marks.values()
        ]
        legend_below(figure, handles, list(marks), width_mm)
    return figure


def _nothing_to_compare() -> Figure:
    with style():
        figure = new_figure(ONE_COLUMN_MM, MARGINS_MM)
        figure.text(0.5, 0.5, "There is one encoder: nothing to compare.", ha="center", va="center")
    return figure


def figure_differences(runs: list[Path], splits: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the encoders of every task in pairs."""
    table = drawn(read_runs(runs), {path.stem: pd.read_csv(path) for path in splits})
    save(draw(table, settings), pdf, png)
    write_text(csv, table.to_csv(index=False))


if __name__ == "__main__":
    run(figure_differences)
