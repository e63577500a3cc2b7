"""The forest of paired differences: all pairs of few encoders, each against the first of many; adjusted for all of them."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.comparisons import holm
from microtome.figure_differences import draw, drawn, figure_differences
from microtome.runs import read_runs
from tests.benchmark_runs import figures_settings, write_runs
from tests.figure_checks import assert_readable, assert_saved, texts
from tests.test_figure_convergence import ELEVEN


def splits(tasks: list[str]) -> dict[str, pd.DataFrame]:
    return {task: pd.DataFrame({"slide": list("abcde"), "mccv1": ["train"] * 4 + ["val"]}) for task in tasks}


def test_the_csv_has_every_pair_and_says_which_are_shown(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, ["texture"], ELEVEN, splits=20, epochs=1)
    (tmp_path / "splits").mkdir()
    splits(["texture"])["texture"].to_csv(tmp_path / "splits" / "texture.csv", index=False)
    files = [tmp_path / f"differences.{kind}" for kind in ("pdf", "png", "csv")]
    figure_differences(paths, [tmp_path / "splits" / "texture.csv"], *files, figures_settings({}))
    assert_saved(files[0], files[1])
    table = pd.read_csv(files[2])
    assert len(table) == 55
    assert table["p_holm"].to_numpy() == pytest.approx(holm(table["p"]))  # over all pairs, shown or not
    assert table[table["shown"]][["first", "second"]].to_numpy().tolist() == [[ELEVEN[0], other] for other in ELEVEN[1:]]
    final = {path.parent.name: pd.read_csv(path).query("epoch == 1").groupby("split")["auc"].mean() for path in paths}
    assert table["difference"][3] == pytest.approx((final[ELEVEN[0]] - final[ELEVEN[4]]).mean())


def test_marks_are_filled_where_the_adjusted_test_finds_a_difference() -> None:
    rows = [("t", "a", "b", 0.1, 0.05, 0.15, 0.001, 0.003, 20, True), ("t", "a", "c", 0.02, -0.03, 0.07, 0.4, 0.4, 20, True)]
    columns = ["task", "first", "second", "difference", "low", "high", "p", "p_holm", "splits", "shown"]
    figure = draw(pd.DataFrame(rows, columns=columns), figures_settings({}))
    marks = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_markerfacecolor()) for line in marks] == [(0.1, "black"), (0.02, "white")]


def test_small_differences_have_ticks_apart() -> None:
    row = {
        "task": "t",
        "first": "dino@2",
        "second": "res50",
        "difference": -0.19,
        "low": -0.2,
        "high": -0.18,
        "p_holm": 0.01,
        "shown": True,
    }
    figure = draw(pd.DataFrame([row]), figures_settings({"res50": "res50 (random weights)"}))
    assert_readable(figure)
    assert sum("res50 (random weights)" in text for text, _ in texts(figure)) == 1


@pytest.mark.parametrize(("tasks", "encoders"), [(1, 2), (2, 6), (3, 11)])
def test_nothing_overlaps(tmp_path: Path, tasks: int, encoders: int) -> None:
    names = [f"a_task_of_number_{n}" for n in range(tasks)]
    paths = write_runs(tmp_path, names, ELEVEN[:encoders], splits=20, epochs=1)
    settings = figures_settings({name: f"{name} (random weights)" for name in ELEVEN[2:4]})
    assert_readable(draw(drawn(read_runs(paths), splits(names)), settings))


def test_one_encoder_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    table = drawn(read_runs(write_runs(tmp_path, ["texture"], ["dino@1", "dino@2"])), splits(["texture"]))
    assert table.empty
    assert [text for text, _ in texts(draw(table, figures_settings({})))] == ["There is one encoder: nothing to compare."]
