"""Figure 3: the splits' AUCs at each checkpoint, boxes that do not cover each other, and the mark of the first pass."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.figure_checkpoints import box_width, draw, drawn, figure_checkpoints, one_pass_position
from microtome.runs import read_runs
from tests.benchmark_runs import figures_settings, write_runs
from tests.figure_checks import assert_readable, assert_saved, texts

DINO = [f"dino_vits16@{epoch}" for epoch in (1, 3, 5, 7, 13, 19, 25)]
MAE = [f"mae_vitl16@{epoch}" for epoch in (1, 5, 10, 20, 30, 40, 50)]
BASELINES = ["tres50", "res50", "uni", "virchow2", "gigapath", "phikon", "ctranspath", "h-optimus-0", "hibou"]


def test_what_is_drawn_are_last_epochs_with_replicas_averaged(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, ["texture"], ["dino@1", "dino@5", "res50"])
    files = [tmp_path / f"checkpoints.{kind}" for kind in ("pdf", "png", "csv")]
    figure_checkpoints(paths, *files, figures_settings({}))
    assert_saved(files[0], files[1])
    table = pd.read_csv(files[2])
    for path in paths:
        runs = pd.read_csv(path).query("epoch == 4")
        mine = table[table["encoder"] == path.parent.name].set_index("split")["auc"]
        pd.testing.assert_series_equal(mine, runs.groupby("split")["auc"].mean())
    assert table["pseudo_epoch"].dropna().unique().tolist() == [1, 5]


@pytest.mark.parametrize("encoders", [["dino@1"], ["res50"], [*DINO, *MAE, *BASELINES], BASELINES, [*DINO, *MAE]])
def test_boxes_stand_apart(tmp_path: Path, encoders: list[str]) -> None:
    table = drawn(read_runs(write_runs(tmp_path, ["texture"], encoders, splits=2)))
    positions = table.drop_duplicates("encoder")["position"].sort_values()
    assert len(positions) == len(encoders)
    assert positions.diff().dropna().ge(box_width(encoders) - 1e-9).all()
    checkpoints = table.dropna(subset="pseudo_epoch")
    baselines = table[table["pseudo_epoch"].isna()]
    if len(checkpoints) and len(baselines):
        assert baselines["position"].min() > checkpoints["position"].max() + box_width(encoders)


def test_the_first_pass_lies_between_checkpoints() -> None:
    assert one_pass_position([1, 3, 5, 7], 5) == 2
    assert one_pass_position([1, 3, 7], 5) == 1.5
    assert one_pass_position([1, 2, 4], 5) is None  # not reached
    assert one_pass_position([], 5) is None


def test_the_mark_is_in_the_legend_where_it_is_drawn(tmp_path: Path) -> None:
    table = drawn(read_runs(write_runs(tmp_path, ["texture"], ["dino@1", "dino@4", "res50"])))
    shown = [text for text, _ in texts(draw(table, figures_settings({"res50": "res50 (random weights)"}, slide_parts=2)))]
    assert {"all slides seen once (2 pseudo-epochs)", "dino", "res50 (random weights)"} <= set(shown)
    shown = [text for text, _ in texts(draw(table, figures_settings({}, slide_parts=5)))]
    assert not any("all slides" in text for text in shown)


@pytest.mark.parametrize(
    ("tasks", "encoders"),
    [(1, ["dino@1", "dino@2"]), (2, [*DINO[:3], "res50"]), (6, [*DINO, *MAE, *BASELINES[:2]]), (1, [*DINO, *MAE, *BASELINES])],
)
def test_nothing_overlaps(tmp_path: Path, tasks: int, encoders: list[str]) -> None:
    paths = write_runs(tmp_path, [f"a_task_of_number_{n}" for n in range(tasks)], encoders)
    figure = draw(drawn(read_runs(paths)), figures_settings({name: name for name in encoders}))
    assert_readable(figure)
    assert figure.get_figwidth() * 25.4 == pytest.approx(89 if encoders == ["dino@1", "dino@2"] else 183)
    dots = [line for line in figure.axes[0].get_lines() if line.get_marker() == "."]
    assert all(line.get_markersize() >= 3 for line in dots)
