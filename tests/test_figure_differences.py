"""The forest of paired differences: all pairs of few encoders, each against the first of many; adjusted for all of them."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.comparisons import aucs_on_the_same_slides, holm
from microtome.figure_differences import draw, drawn, figure_differences
from tests.benchmark_runs import figures_settings, random_aucs, write_predictions
from tests.figure_checks import assert_readable, assert_saved, texts
from tests.test_figure_convergence import ELEVEN


def splits(tasks: list[str]) -> dict[str, pd.DataFrame]:
    return {task: pd.DataFrame({"slide": list("abcde"), "mccv1": ["train"] * 4 + ["val"]}) for task in tasks}


def test_the_csv_has_every_pair_and_says_which_are_shown(tmp_path: Path) -> None:
    paths = write_predictions(tmp_path, ["texture"], ELEVEN)
    (tmp_path / "splits").mkdir()
    splits(["texture"])["texture"].to_csv(tmp_path / "splits" / "texture.csv", index=False)
    files = [tmp_path / f"differences.{kind}" for kind in ("pdf", "png", "csv")]
    figure_differences(paths, [tmp_path / "splits" / "texture.csv"], *files, figures_settings({}))
    assert_saved(files[0], files[1])
    table = pd.read_csv(files[2])
    assert len(table) == 55
    assert table["p_holm"].to_numpy() == pytest.approx(holm(table["p"]))  # over all pairs, shown or not
    assert table[table["shown"]][["first", "second"]].to_numpy().tolist() == [[ELEVEN[0], other] for other in ELEVEN[1:]]
    final = aucs_on_the_same_slides(paths).groupby("encoder")["auc"].mean()
    assert table["difference"][3] == pytest.approx(final[ELEVEN[0]] - final[ELEVEN[4]])


def test_marks_say_what_the_adjusted_test_found_and_arrows_where_an_interval_goes_on() -> None:
    rows = [
        ("t", "a", "b", 0.1, 0.05, 0.15, 0.001, 0.003, 20, True),
        ("t", "a", "c", 0.02, 0.01, 0.07, 0.02, 0.06, 20, True),  # the interval is not adjusted
        ("t", "b", "c", 0.5, -0.2, 1.2, 0.6, 0.7, 2, True),
        ("t", "b", "d", 0.25, float("nan"), float("nan"), float("nan"), float("nan"), 1, True),
    ]
    columns = ["task", "first", "second", "difference", "low", "high", "p", "p_holm", "splits", "shown"]
    figure = draw(pd.DataFrame(rows, columns=columns), figures_settings({}))
    lines = figure.axes[0].get_lines()
    circles = [(line.get_xdata()[0], line.get_markerfacecolor()) for line in lines if line.get_marker() == "o"]
    assert circles == [(0.1, "black"), (0.02, "white"), (0.5, "white")]
    assert [line.get_xdata()[0] for line in lines if line.get_marker() == "x"] == [0.25]
    arrows = {str(line.get_marker()): (list(line.get_xdata()), list(line.get_ydata())) for line in lines if line.get_marker() in ("<", ">")}
    assert arrows == {">": ([1], [2])}
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["Holm-adjusted p < 0.05", "Holm-adjusted p ≥ 0.05", "no test: every split differs by the same"]
    tested = draw(pd.DataFrame(rows[:1], columns=columns), figures_settings({}))
    assert [text.get_text() for text in tested.legends[0].get_texts()] == legend[:2]
    assert figure.get_figwidth() * 25.4 == pytest.approx(89)


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
def test_nothing_overlaps(tasks: int, encoders: int) -> None:
    names = [f"a_task_of_number_{n}" for n in range(tasks)]
    settings = figures_settings({name: f"{name} (random weights)" for name in ELEVEN[2:4]})
    assert_readable(draw(drawn(random_aucs(names, ELEVEN[:encoders]), splits(names)), settings))


def test_one_encoder_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    table = drawn(aucs_on_the_same_slides(write_predictions(tmp_path, ["texture"], ["dino@1", "dino@2"])), splits(["texture"]))
    assert table.empty
    assert [text for text, _ in texts(draw(table, figures_settings({})))] == ["There is one encoder: nothing to compare."]
