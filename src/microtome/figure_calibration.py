"""Whether probabilities can be taken at their word: a panel a task, encoders as colours.

Above, how often class 1 was true of the validation slides to which the last epoch gave each tenth of probabilities (of more than two
classes: how often the most probable class was right), with the 95 % score interval (Wilson 1927) of that many different slides (of more
than `MANY` encoders the CSV alone has it); hollow where there are fewer than `FEW`. Below, how the predictions spread over the tenths. A
run stands for itself with its last checkpoint.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.decisions import BINS, calibration, probabilities
from microtome.figure_style import MANY, Look, hide_unused, legend_below, looks, new_figure, panel_grid, save, style
from microtome.runs import labelled, last_checkpoints
from microtome.settings import FiguresSettings

TASKS_A_ROW = 3
PANEL_MM = 74.0
FEW = 10
COLUMNS = ["task", "encoder", "classes", "task_slides", "tenth", "probability", "frequency", "low", "high", "predictions", "slides"]


def drawn(predictions: list[Path]) -> pd.DataFrame:
    """What is drawn: `COLUMNS`; a row for each tenth that has predictions, `task_slides` the different slides of all tenths."""
    shown = last_checkpoints(path.parent.name for path in predictions)
    parts = []
    for path in predictions:
        if path.parent.name in shown:
            table = pd.read_parquet(path)
            of_task = {"classes": probabilities(table).shape[1], "task_slides": table["slide"].nunique()}
            parts.append(calibration(table).assign(task=path.parent.parent.name, encoder=path.parent.name, **of_task))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def draw_curves(panel: Axes, rows: pd.DataFrame, look: dict[str, Look]) -> None:
    """One task: `rows` has the rows of `drawn` of that task."""
    panel.plot([0, 1], [0, 1], color="0.6", linewidth=0.5, linestyle=":")
    bars = rows["encoder"].nunique() <= MANY
    for encoder, of_one in rows.groupby("encoder", sort=False):
        how = look[str(encoder)]
        if bars:
            panel.vlines(of_one["probability"], of_one["low"], of_one["high"], color=how.colour, linewidth=0.6, alpha=0.45)
        panel.plot(of_one["probability"], of_one["frequency"], color=how.colour, linestyle=how.line, linewidth=0.9)
        for few, fill in ((False, how.colour), (True, "white")):
            points = of_one[(of_one["slides"] < FEW) == few]
            marks: dict[str, Any] = {"color": how.colour, "markerfacecolor": fill, "markersize": 3, "markeredgewidth": 0.6}
            panel.plot(points["probability"], points["frequency"], how.marker, **marks)
    panel.set_xlim(0, 1)
    panel.set_ylim(-0.02, 1.02)
    panel.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    panel.set_xticks([0, 0.5, 1], ["", "", ""])


def draw_counts(panel: Axes, rows: pd.DataFrame, look: dict[str, Look]) -> None:
    """The share of an encoder's predictions in each tenth, as steps."""
    for encoder, of_one in rows.groupby("encoder", sort=False):
        how = look[str(encoder)]
        share = np.bincount(of_one["tenth"], of_one["predictions"], BINS) / of_one["predictions"].sum()
        panel.stairs(share, np.linspace(0, 1, BINS + 1), color=how.colour, linestyle=how.line, linewidth=0.8)
    panel.set_xlim(0, 1)
    panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    panel.locator_params(axis="y", nbins=2)
    panel.set_xlabel("probability of class 1" if (rows["classes"] == 2).all() else "probability of the class called")


def draw(table: pd.DataFrame, settings: FiguresSettings) -> Figure:
    """The figure of the rows of `drawn`."""
    tasks, encoders = list(table["task"].unique()), list(table["encoder"].unique())
    look = looks([*settings.labels, *encoders])
    columns, rows, width_mm = panel_grid(len(tasks), TASKS_A_ROW)
    with style():
        figure = new_figure(width_mm, PANEL_MM * rows + 16)
        panels = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[4, 1] * rows)
        for i, task in enumerate(tasks):
            row, column = divmod(i, columns)
            of_task = table[table["task"] == task]
            above, below = panels[2 * row : 2 * row + 2, column]
            draw_curves(above, of_task, look)
            draw_counts(below, of_task, look)
            above.set_title(f"{task} ({of_task['task_slides'].max():,} slides)")
            if column == 0:
                above.set_ylabel("observed frequency")
                below.set_ylabel("predictions")
        for row_of_panels in panels[-2:]:
            hide_unused(row_of_panels.tolist(), len(tasks) - columns * (rows - 1))
        handles = [Line2D([], [], color=look[e].colour, linestyle=look[e].line, marker=look[e].marker) for e in encoders]
        names = [labelled(encoder, settings.labels) for encoder in encoders]
        if (table["slides"] < FEW).any():
            handles.append(Line2D([], [], color="black", linestyle="none", marker="o", markerfacecolor="white", markeredgewidth=0.6))
            names.append(f"fewer than {FEW} different slides")
        legend_below(figure, handles, names, width_mm)
        figure.align_ylabels()
    return figure


def figure_calibration(predictions: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the calibration of every task."""
    table = drawn(predictions)
    save(draw(table, settings), pdf, png)
    write_text(csv, table.to_csv(index=False))


if __name__ == "__main__":
    run(figure_calibration)
