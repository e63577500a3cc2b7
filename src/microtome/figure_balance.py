"""How the schedules balance organs, and how often they return to tiles.

Left: each organ's share of the tiles that its slides have (natural), of what was aimed at (target: natural ^ organ_alpha) and of what is
drawn (reached), over all pseudo-epochs. Right: the tiles of each pseudo-epoch that are drawn for the first time, that an earlier
pseudo-epoch had drawn, and that are repeated within it.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.figure_style import COLOURS, GREY, TWO_COLUMNS_MM, legend_below, new_figure, save, style

SHARES = {"natural_share": "natural", "target_share": "target", "reached_share": "reached"}
DRAWS = {"first": "first time", "seen_before": "drawn in an earlier pseudo-epoch", "repeated": "repeated within the pseudo-epoch"}
ORGAN_MM, MARGINS_MM, LEAST_MM = 2.6, 26.0, 60.0
MANY = 20  # organs, from which on the panel of pseudo-epochs is lower than theirs
LOG_FROM = 50.0


def drawn(balance: pd.DataFrame) -> pd.DataFrame:
    """What is drawn, from schedule/quota/balance.csv: panel, row (organ or pseudo-epoch), quantity, share (0 to 1)."""
    organs = balance[balance["pseudo_epoch"] == "all"].sort_values("natural_share", ascending=False)
    shares = organs.rename(columns={"organ": "row", **SHARES})[["row", *SHARES.values()]]
    each = balance[balance["pseudo_epoch"] != "all"].groupby("pseudo_epoch", sort=False)[["tiles", "seen_before", "repeated"]].sum()
    each = each.assign(first=each["tiles"] - each["seen_before"] - each["repeated"])
    draws = each[list(DRAWS)].div(each["tiles"], axis=0).rename(columns=DRAWS).rename_axis("row").reset_index()
    panels = {"organs": shares, "pseudo-epochs": draws}
    long = [table.melt("row", var_name="quantity", value_name="share").assign(panel=panel) for panel, table in panels.items()]
    return pd.concat(long, ignore_index=True)[["panel", "row", "quantity", "share"]]


def draw_organs(panel: Axes, rows: pd.DataFrame) -> None:
    """A line an organ, the most frequent on top, with a mark for each share."""
    wide = rows.pivot(index="row", columns="quantity", values="share").reindex(rows["row"].unique())
    places = range(len(wide))
    panel.hlines(places, wide.min(axis=1), wide.max(axis=1), color="0.85", linewidth=0.8, zorder=0)
    panel.plot(wide["natural"], places, "o", color=GREY, label="natural")
    panel.plot(wide["target"], places, "o", markersize=5, markerfacecolor="none", color=COLOURS[1], markeredgewidth=0.8, label="target")
    panel.plot(wide["reached"], places, ".", color=COLOURS[0], label="reached")
    panel.set_yticks(places, wide.index.astype(str).tolist())
    panel.set_ylim(len(wide) - 0.5, -0.5)
    if rows["share"].min() > 0 and rows["share"].max() > LOG_FROM * rows["share"].min():
        panel.set_xscale("log")  # one organ of most tiles would leave no room for the others
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        panel.set_xlim(left=0)
    panel.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    panel.set_xlabel("share of the tiles")
    panel.set_title("organs, all pseudo-epochs")


def draw_draws(panel: Axes, rows: pd.DataFrame) -> None:
    """A bar a pseudo-epoch."""
    wide = rows.pivot(index="row", columns="quantity", values="share").reindex(rows["row"].unique())[list(DRAWS.values())]
    bottom = pd.Series(0.0, wide.index)
    for quantity, colour in zip(wide.columns, [COLOURS[2], COLOURS[4], COLOURS[3]], strict=True):
        if wide[quantity].any():  # no legend entry for what never happened
            panel.bar(wide.index.astype(int), wide[quantity], bottom=bottom, color=colour, width=0.85, label=str(quantity))
            bottom = bottom + wide[quantity]
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.yaxis.set_major_formatter(PercentFormatter(1))
    panel.set_ylim(0, 1)
    panel.set_xlabel("pseudo-epoch")
    panel.set_ylabel("of its tiles")
    panel.set_title("tiles drawn")


def draw(table: pd.DataFrame) -> Figure:
    """The figure of the rows of `drawn`."""
    organs, draws = table[table["panel"] == "organs"], table[table["panel"] == "pseudo-epochs"]
    with style():
        figure = new_figure(TWO_COLUMNS_MM, max(LEAST_MM, MARGINS_MM + ORGAN_MM * organs["row"].nunique()))
        left, right = figure.subplots(1, 2)
        draw_organs(left, organs)
        draw_draws(right, draws)
        if organs["row"].nunique() > MANY:
            right.set_box_aspect(0.8)
            right.set_anchor("N")
        entries = [panel.get_legend_handles_labels() for panel in (left, right)]
        legend_below(figure, entries[0][0] + entries[1][0], entries[0][1] + entries[1][1], TWO_COLUMNS_MM)
    return figure


def figure_balance(balance: Path, pdf: Path, png: Path, csv: Path) -> None:
    """Draw how balanced the organs of the schedules are."""
    table = drawn(pd.read_csv(balance, dtype={"pseudo_epoch": str}))
    save(draw(table), pdf, png)
    write_text(csv, table.to_csv(index=False))


if __name__ == "__main__":
    run(figure_balance)
