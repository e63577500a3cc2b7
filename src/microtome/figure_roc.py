"""ROC curves of the last epoch on the validation slides, a panel a task, encoders as colours.

A run's curve is read at fixed false positive rates (vertical averaging, Fawcett 2006); where a task has more than two classes it is the
mean over classes of each one's curve against the rest. Replicas of a split are averaged first; a line is the mean over splits, a band the
95 % bootstrap interval of that mean at each rate (of more than `MANY` encoders the CSV alone has it). A run stands for itself with its last
checkpoint.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.figure_style import MANY, Look, hide_unused, legend_below, looks, new_figure, panel_grid, save, style
from microtome.runs import labelled, last_checkpoints
from microtome.settings import FiguresSettings
from microtome.statistics import bootstrap_ends

RATES = np.linspace(0, 1, 101)  # false positive rates at which curves are read
TASKS_A_ROW = 3
PANEL_MM = 58.0


def mean_curve(predictions: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """The mean ROC curve of one task and encoder: fpr, tpr, low, high, at 0 and at `RATES`. `predictions`: predictions.parquet of `gma`."""
    runs = predictions.groupby(["split", "replica"])[list(predictions.columns)].apply(lambda run: pd.Series(_curve(run), RATES))
    splits = runs.groupby(level="split").mean().to_numpy()  # [splits, rates]
    low, high = bootstrap_ends(splits.T, resamples, seed)
    curve = pd.DataFrame({"fpr": RATES, "tpr": splits.mean(axis=0), "low": low, "high": high})
    return pd.concat([pd.DataFrame([dict.fromkeys(curve.columns, 0.0)]), curve], ignore_index=True)  # every curve starts at the origin


def _curve(run: pd.DataFrame) -> NDArray[np.float64]:
    """The true positive rate of one run at each of `RATES`: of class 1, or the macro average of one class against the rest.

    `np.interp` takes the last of several points with one false positive rate: the upper end where the curve climbs straight up.
    """
    classes = run.filter(regex=r"^probability_\d+$").shape[1]
    curves = []
    for label in range(classes) if classes > 2 else (1,):
        fpr, tpr, _ = roc_curve(run["target"] == label, run[f"probability_{label}"], drop_intermediate=False)
        curves.append(np.interp(RATES, fpr, tpr))
    return np.asarray(np.mean(curves, axis=0))


def drawn(predictions: list[Path], settings: FiguresSettings) -> pd.DataFrame:
    """What is drawn: task, encoder, fpr, tpr, low, high."""
    shown = last_checkpoints(path.parent.name for path in predictions)
    parts = []
    for path in predictions:
        if path.parent.name in shown:
            curve = mean_curve(pd.read_parquet(path), settings.figures.bootstrap, settings.seed)
            parts.append(curve.assign(task=path.parent.parent.name, encoder=path.parent.name))
    return pd.concat(parts, ignore_index=True)[["task", "encoder", "fpr", "tpr", "low", "high"]]


def draw_panel(panel: Axes, rows: pd.DataFrame, look: dict[str, Look]) -> None:
    """One task: `rows` has the rows of `drawn` of that task."""
    panel.plot([0, 1], [0, 1], color="0.6", linewidth=0.5, linestyle=":")
    bands = rows["encoder"].nunique() <= MANY
    for encoder, of_one in rows.groupby("encoder", sort=False):
        how = look[str(encoder)]
        if bands:
            panel.fill_between(of_one["fpr"], of_one["low"], of_one["high"], color=how.colour, alpha=0.15, linewidth=0)
        panel.plot(of_one["fpr"], of_one["tpr"], color=how.colour, linestyle=how.line)
    panel.set_aspect("equal")
    panel.set_xlim(-0.01, 1)
    panel.set_ylim(0, 1.01)
    panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    panel.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def draw(table: pd.DataFrame, settings: FiguresSettings) -> Figure:
    """The figure of the rows of `drawn`."""
    tasks, encoders = list(table["task"].unique()), list(table["encoder"].unique())
    look = looks([*settings.labels, *encoders])
    columns, rows, width_mm = panel_grid(len(tasks), TASKS_A_ROW)
    with style():
        figure = new_figure(width_mm, PANEL_MM * rows + 14)
        panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for i, task in enumerate(tasks):
            draw_panel(panels[i], table[table["task"] == task], look)
            panels[i].set_title(task)
            panels[i].set_xlabel("false positive rate")
            if i % columns == 0:
                panels[i].set_ylabel("true positive rate")
        hide_unused(panels, len(tasks))
        handles = [Line2D([], [], color=look[encoder].colour, linestyle=look[encoder].line) for encoder in encoders]
        legend_below(figure, handles, [labelled(encoder, settings.labels) for encoder in encoders], width_mm)
    return figure


def figure_roc(predictions: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the ROC curves of every task."""
    table = drawn(predictions, settings)
    save(draw(table, settings), pdf, png)
    write_text(csv, table.to_csv(index=False))


if __name__ == "__main__":
    run(figure_roc)
