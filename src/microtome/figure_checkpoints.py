"""Figure 3: validation AUC at each checkpoint of a run, as distributions over splits, a panel a task, with the baselines beside.

A box spans the quartiles of the splits' AUCs (last epoch, replicas averaged) with the median across, whiskers reach to the ends; points
are the splits; larger marks are means, joined along a run. Checkpoints stand at even distances, whatever their pseudo-epochs. The dashed
mark says where all slides of the cohort have been seen once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.figure_style import ONE_COLUMN_MM, TWO_COLUMNS_MM, Look, hide_unused, legend_below, looks, new_figure, save, style
from microtome.runs import base_name, final_auc, labelled, pseudo_epoch_of, read_runs
from microtome.settings import FiguresSettings

PANEL_HEIGHT_MM = 52.0
PASS_LINE: dict[str, Any] = {"color": "0.5", "linewidth": 0.7, "linestyle": (0, (4, 3))}
DOT = 3.0  # points; matplotlib's "." is half as wide
SLOT = 0.8  # of the distance of two checkpoints, shared by the runs' boxes
GAP = 1.0  # between checkpoints and baselines, in the same measure


def drawn(runs: pd.DataFrame) -> pd.DataFrame:
    """What is drawn: task, encoder, pseudo_epoch (empty for a baseline), position (x, in checkpoints), split, auc."""
    table = final_auc(runs)
    positions = _positions(list(table["encoder"].unique()))
    epochs = table["encoder"].map(lambda encoder: pseudo_epoch_of(str(encoder))).astype("Int64")
    return table.assign(pseudo_epoch=epochs, position=table["encoder"].map(positions))[
        ["task", "encoder", "pseudo_epoch", "position", "split", "auc"]
    ]


def _positions(encoders: Sequence[str]) -> dict[str, float]:
    """Where each encoder's box stands: checkpoints of one pseudo-epoch side by side, the baselines after the last of them."""
    epochs = _epochs(encoders)
    names = list(dict.fromkeys(base_name(e) for e in encoders if pseudo_epoch_of(e) is not None))
    width = box_width(encoders)
    positions, baselines = {}, 0
    for encoder in encoders:
        epoch = pseudo_epoch_of(encoder)
        if epoch is None:
            positions[encoder] = len(epochs) - 1 + GAP * bool(epochs) + SLOT / 2 + width * (baselines + 0.5)
            baselines += 1
        else:
            positions[encoder] = epochs.index(epoch) + width * (names.index(base_name(encoder)) - (len(names) - 1) / 2)
    return positions


def _epochs(encoders: Sequence[str]) -> list[int]:
    return sorted({epoch for encoder in encoders if (epoch := pseudo_epoch_of(encoder)) is not None})


def box_width(encoders: Sequence[str]) -> float:
    """The width that a box and its margins have, in distances of checkpoints."""
    return SLOT / max(2, len({base_name(encoder) for encoder in encoders if pseudo_epoch_of(encoder) is not None}))


def one_pass_position(epochs: Sequence[int], slide_parts: int) -> float | None:
    """Where `slide_parts` pseudo-epochs lie between the evenly spaced checkpoints; None where they are out of reach."""
    if not epochs or not epochs[0] <= slide_parts <= epochs[-1]:
        return None
    return float(np.interp(slide_parts, epochs, np.arange(len(epochs))))


def draw_panel(panel: Axes, rows: pd.DataFrame, look: dict[str, Look], slide_parts: int) -> None:
    """One task: `rows` has the rows of `drawn` of that task."""
    encoders = list(rows["encoder"].unique())
    width, epochs = box_width(encoders), _epochs(encoders)
    for encoder, of_one in rows.groupby("encoder", sort=False):
        _draw_box(panel, of_one, look[str(encoder)].colour, width)
    for _, of_name in rows.groupby(rows["encoder"].map(base_name), sort=False):
        means = of_name.groupby("position")["auc"].mean()
        how = look[str(of_name["encoder"].iloc[0])]
        edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.4}
        panel.plot(means.index, means, color=how.colour, linestyle=how.line, marker=how.marker, zorder=4, **edge)
    mark = one_pass_position(epochs, slide_parts)
    if mark is not None:
        panel.axvline(mark, **PASS_LINE, zorder=0)
    panel.axhline(0.5, color="0.6", linewidth=0.5, linestyle=":", zorder=0)
    baselines = rows[rows["pseudo_epoch"].isna()]["position"]
    ticks = [float(i) for i in range(len(epochs))] + ([float(baselines.unique().mean())] if len(baselines) else [])
    panel.set_xticks(ticks, [*map(str, epochs), *["baselines"][: len(ticks) - len(epochs)]])
    panel.set_xlim(rows["position"].min() - 0.5, rows["position"].max() + 0.5)


def _draw_box(panel: Axes, of_one: pd.DataFrame, colour: str, width: float) -> None:
    x, values = float(of_one["position"].iloc[0]), of_one["auc"].to_numpy()
    lines = {"color": colour, "linewidth": 0.7}
    panel.boxplot(
        [values],
        positions=[x],
        widths=0.75 * width,
        whis=(0, 100),
        showcaps=False,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "alpha": 0.25, "linewidth": 0},
        whiskerprops=lines,
        medianprops={**lines, "linewidth": 1.2},
    )
    offsets = (np.arange(len(values)) % 5 - 2) * 0.11 * width  # neighbours in the list of splits stand beside each other
    panel.plot(x + offsets, values, ".", color=colour, markersize=DOT, markeredgewidth=0, alpha=0.8, zorder=3)


def draw(table: pd.DataFrame, settings: FiguresSettings) -> Figure:
    """The figure of the rows of `drawn`."""
    tasks, encoders = list(table["task"].unique()), list(table["encoder"].unique())
    look = looks([*settings.labels, *encoders])
    extent = float(table["position"].max() - table["position"].min()) / box_width(encoders)  # in boxes
    columns = min(len(tasks), 3 if extent < 14 else 2 if extent < 40 else 1)
    rows = -(-len(tasks) // columns)
    width_mm = ONE_COLUMN_MM if columns == 1 and extent < 20 else TWO_COLUMNS_MM
    with style():
        figure = new_figure(width_mm, PANEL_HEIGHT_MM * rows)
        panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for i, task in enumerate(tasks):
            draw_panel(panels[i], table[table["task"] == task], look, settings.slide_parts)
            panels[i].set_title(task)
            panels[i].set_xlabel("pseudo-epoch of the checkpoint" if _epochs(encoders) else "")
            if i % columns == 0:
                panels[i].set_ylabel("validation AUC")
        hide_unused(panels, len(tasks))
        legend_mm = legend_below(figure, *_entries(encoders, look, settings), width_mm)
        figure.set_figheight((PANEL_HEIGHT_MM * rows + legend_mm + 4) / 25.4)
    return figure


def _entries(encoders: Sequence[str], look: dict[str, Look], settings: FiguresSettings) -> tuple[list[Line2D], list[str]]:
    """A legend entry for each run and baseline, and for the mark of the first pass where it is drawn."""
    handles, names = [], []
    for encoder in {base_name(encoder): encoder for encoder in encoders}.values():
        how, is_run = look[encoder], pseudo_epoch_of(encoder) is not None
        handles.append(Line2D([], [], color=how.colour, marker=how.marker, linestyle=how.line if is_run else "none"))
        names.append(base_name(encoder) if is_run else labelled(encoder, settings.labels))
    if one_pass_position(_epochs(encoders), settings.slide_parts) is not None:
        handles.append(Line2D([], [], **PASS_LINE))
        names.append(f"all slides seen once ({settings.slide_parts} pseudo-epochs)")
    return handles, names


def figure_checkpoints(runs: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the AUCs of all checkpoints and baselines."""
    table = drawn(read_runs(runs))
    save(draw(table, settings), pdf, png)
    write_text(csv, table.to_csv(index=False))


if __name__ == "__main__":
    run(figure_checkpoints)
