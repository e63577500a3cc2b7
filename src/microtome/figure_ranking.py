"""The encoders of each task from best to worst: mean validation AUC with its 95 % bootstrap interval over splits.

Beside it the rank, with the range that 95 % of the bootstrap resamples give it. A run stands for itself with its last checkpoint.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.comparisons import aucs_on_the_same_slides, ranking
from microtome.figure_style import ONE_COLUMN_MM, TWO_COLUMNS_MM, Look, hide_unused, looks, new_figure, save, style
from microtome.runs import labelled
from microtome.settings import FiguresSettings

ROW_MM, MARGINS_MM = 4.2, 16.0
TASKS_A_ROW = 2


def draw_panel(panel: Axes, rows: pd.DataFrame, look: dict[str, Look], labels: dict[str, str]) -> None:
    """One task: `rows` has its encoders, the best first."""
    for y, row in enumerate(rows.to_dict("records")):
        how = look[row["encoder"]]
        panel.plot([row["low"], row["high"]], [y, y], color=how.colour, linewidth=1.4, solid_capstyle="butt")
        panel.plot(row["mean"], y, how.marker, color=how.colour, markersize=4, markeredgecolor="white", markeredgewidth=0.4)
        rank, first, last = row["rank"], row["rank_low"], row["rank_high"]
        span = "" if pd.isna(first) or first == last else f" ({first}–{last})"
        panel.annotate(f"{rank}{span}", (1, y), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points", va="center")
    panel.annotate("rank", (1, 1), xycoords="axes fraction", xytext=(4, 3), textcoords="offset points", color="0.35")
    panel.set_yticks(range(len(rows)), [labelled(str(encoder), labels) for encoder in rows["encoder"]])
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="0.9", linewidth=0.5)
    panel.set_axisbelow(True)
    if panel.get_xlim()[0] < 0.5 < panel.get_xlim()[1]:
        panel.axvline(0.5, color="0.6", linewidth=0.5, linestyle=":", zorder=0)


def draw(table: pd.DataFrame, settings: FiguresSettings) -> Figure:
    """The figure of the rows of `comparisons.ranking`."""
    tasks, encoders = list(table["task"].unique()), list(table["encoder"].unique())
    look = looks([*settings.labels, *encoders])
    columns = min(TASKS_A_ROW, len(tasks))
    rows = -(-len(tasks) // columns)
    with style():
        figure = new_figure(ONE_COLUMN_MM if columns == 1 else TWO_COLUMNS_MM, rows * (MARGINS_MM + ROW_MM * len(encoders)))
        panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for panel, task in zip(panels, tasks, strict=False):
            draw_panel(panel, table[table["task"] == task], look, settings.labels)
            panel.set_title(task)
            panel.set_xlabel("validation AUC")
        hide_unused(panels, len(tasks))
    return figure


def figure_ranking(predictions: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the encoders of every task from best to worst."""
    table = ranking(aucs_on_the_same_slides(predictions), settings.figures.bootstrap, settings.seed)
    save(draw(table, settings), pdf, png)
    write_text(csv, table.to_csv(index=False))


if __name__ == "__main__":
    run(figure_ranking)
