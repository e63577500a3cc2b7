"""Figure 2: how the aggregators converge: training loss and validation AUC by epoch, a column of two panels a task, encoders as colours.

Replicas of a split are averaged first; a line is the mean over splits, a band the 95 % bootstrap interval of that mean. A run stands for
itself with its last checkpoint. Epoch 0 is the untrained aggregator.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.figure_style import ONE_COLUMN_MM, TWO_COLUMNS_MM, Look, hide_unused, legend_below, looks, new_figure, save, style
from microtome.runs import labelled, last_checkpoints, read_runs
from microtome.settings import FiguresSettings
from microtome.statistics import curve

MEASURES = {"loss": "training loss", "auc": "validation AUC"}
TASKS_A_ROW = 3
PANEL_HEIGHT_MM = 38.0


def drawn(runs: pd.DataFrame, settings: FiguresSettings) -> pd.DataFrame:
    """What is drawn: task, encoder, measure, split, replica, epoch, value, low, high.

    Rows without a split are means over splits with the ends of their interval; rows with one are the single runs, where they are wanted.
    """
    parts = []
    for (task, encoder), of_one in runs.groupby(["task", "encoder"], sort=False):
        for measure in MEASURES:
            trained = of_one.dropna(subset=measure)
            mean = curve(trained, measure, settings.figures.bootstrap, settings.seed).rename(columns={"mean": "value"})
            single = trained.rename(columns={measure: "value"})[["split", "replica", "epoch", "value"]]
            both = [mean, single] if settings.figures.single_runs else [mean]
            parts += [part.assign(task=str(task), encoder=str(encoder), measure=measure) for part in both]
    columns = ["task", "encoder", "measure", "split", "replica", "epoch", "value", "low", "high"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns).astype({"split": "Int64", "replica": "Int64"})


def draw_panel(panel: Axes, rows: pd.DataFrame, look: dict[str, Look]) -> None:
    """One measure of one task: `rows` has the rows of `drawn` of that panel."""
    for encoder, of_one in rows.groupby("encoder", sort=False):
        how = look[str(encoder)]
        single = [run[["epoch", "value"]].to_numpy() for _, run in of_one.dropna(subset="split").groupby(["split", "replica"])]
        panel.add_collection(LineCollection(single, colors=how.colour, linewidths=0.25, alpha=0.25))
        mean = of_one[of_one["split"].isna()]
        panel.fill_between(mean["epoch"], mean["low"], mean["high"], color=how.colour, alpha=0.18, linewidth=0)
        panel.plot(mean["epoch"], mean["value"], color=how.colour, linestyle=how.line)
    panel.set_xlim(0, rows["epoch"].max())
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def draw(table: pd.DataFrame, settings: FiguresSettings) -> Figure:
    """The figure of the rows of `drawn`."""
    tasks, encoders = list(table["task"].unique()), list(table["encoder"].unique())
    look = looks([*settings.labels, *encoders])
    columns = min(TASKS_A_ROW, len(tasks))
    blocks = -(-len(tasks) // columns)
    width_mm = ONE_COLUMN_MM if columns == 1 else TWO_COLUMNS_MM
    names = [labelled(encoder, settings.labels) for encoder in encoders]
    with style():
        figure = new_figure(width_mm, 2 * PANEL_HEIGHT_MM * blocks)
        panels = figure.subplots(2 * blocks, columns, squeeze=False)
        for i, task in enumerate(tasks):
            block, column = divmod(i, columns)
            of_task: Sequence[Axes] = panels[2 * block : 2 * block + 2, column].tolist()
            for panel, (measure, name) in zip(of_task, MEASURES.items(), strict=True):
                draw_panel(panel, table[(table["task"] == task) & (table["measure"] == measure)], look)
                if column == 0:
                    panel.set_ylabel(name)
            of_task[0].set_title(task)
            of_task[0].tick_params(labelbottom=False)
            of_task[1].axhline(0.5, color="0.6", linewidth=0.5, linestyle=":")
            of_task[1].set_xlabel("epoch")
        for row in panels[-2:]:
            hide_unused(row.tolist(), len(tasks) - columns * (blocks - 1))
        handles = [Line2D([], [], color=look[encoder].colour, linestyle=look[encoder].line) for encoder in encoders]
        legend_mm = legend_below(figure, handles, names, width_mm)
        figure.set_figheight((2 * PANEL_HEIGHT_MM * blocks + legend_mm + 4) / 25.4)
        figure.align_ylabels()
    return figure


def figure_convergence(runs: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the convergence of every task."""
    table = read_runs(runs)
    shown = drawn(table[table["encoder"].isin(last_checkpoints(table["encoder"].unique()))], settings)
    save(draw(shown, settings), pdf, png)
    write_text(csv, shown.to_csv(index=False))


if __name__ == "__main__":
    run(figure_convergence)
