"""The figure of balance: its numbers against the balance table, and the same bytes twice."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from microtome.figure_balance import DRAWS, draw, draw_draws, drawn, figure_balance
from tests.figure_checks import assert_readable
from tests.test_schedule_quota import COHORT, run_quota
from tests.tile_folder import slide_table


def test_what_is_drawn(tmp_path: Path) -> None:
    _, balance = run_quota(tmp_path, slide_table(COHORT), tiles=100)
    table = drawn(balance)
    assert set(table["panel"]) == {"organs", "pseudo-epochs"}
    organs = table[table["panel"] == "organs"]
    assert np.allclose(organs.groupby("quantity")["share"].sum(), 1)
    reached = organs[organs["quantity"] == "reached"].set_index("row")["share"]
    everything = balance[balance["pseudo_epoch"] == "all"].set_index("organ")
    assert np.allclose(reached[everything.index], everything["tiles"] / 600)
    draws = table[table["panel"] == "pseudo-epochs"]
    assert np.allclose(draws.groupby("row")["share"].sum(), 1)
    first = draws[draws["quantity"] == "first time"].set_index("row")["share"]
    assert first["1"] > first["6"]


def test_files(tmp_path: Path) -> None:
    run_quota(tmp_path, slide_table(COHORT))
    for name in ("a", "b"):
        paths = [tmp_path / f"{name}.{suffix}" for suffix in ("pdf", "png", "csv")]
        figure_balance(tmp_path / "quota" / "balance.csv", *paths)
    for suffix in ("pdf", "png", "csv"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert len(pd.read_csv(tmp_path / "a.csv")) == 3 * 3 + 3 * 6


def test_what_never_happened_has_no_legend_entry() -> None:
    table = pd.DataFrame({"first time": [0.4, 1], "drawn in an earlier pseudo-epoch": [0.6, 0], "repeated within the pseudo-epoch": [0, 0]})
    rows = table.assign(row=["1", "2"]).melt("row", var_name="quantity", value_name="share")
    panel = Figure().subplots()
    draw_draws(panel, rows)
    assert panel.get_legend_handles_labels()[1] == ["first time", "drawn in an earlier pseudo-epoch"]
    assert [round(bar.get_height(), 9) for bar in panel.patches] == [0.4, 1, 0.6, 0]


def test_many_organs_of_very_different_shares_can_be_read() -> None:
    organs = [
        (f"organ number {n}", name, share) for n in range(70) for name, share in (("natural", 0.5**n), ("target", 0.02), ("reached", 0.02))
    ]
    table = pd.DataFrame(organs, columns=["row", "quantity", "share"])
    draws = pd.DataFrame([(str(n), name, 1 / 3) for n in range(1, 51) for name in DRAWS.values()], columns=["row", "quantity", "share"])
    figure = draw(pd.concat([table.assign(panel="organs"), draws.assign(panel="pseudo-epochs")]))
    assert_readable(figure)
    left, right = (panel.get_window_extent() for panel in figure.axes)
    assert figure.axes[0].get_xscale() == "log"
    assert right.height < 0.5 * left.height
