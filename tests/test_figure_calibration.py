"""The calibration figure: its numbers are those of `decisions.calibration`, its texts can be read."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.decisions import calibration
from microtome.figure_calibration import draw, drawn, figure_calibration
from tests.benchmark_runs import figures_settings
from tests.figure_checks import assert_readable, assert_saved, texts
from tests.test_decisions import drawn as predictions
from tests.test_decisions import write
from tests.test_figure_convergence import ELEVEN


def test_what_is_drawn_is_calibration_of_last_checkpoints(tmp_path: Path) -> None:
    paths = [
        write(tmp_path, task, encoder, predictions(3 if task == "b" else 2)) for task in "ab" for encoder in ("dino@1", "dino@2", "res50")
    ]
    table = drawn(paths)
    assert list(table["encoder"].unique()) == ["dino@2", "res50"]
    one = table[(table["task"] == "b") & (table["encoder"] == "res50")]
    expected = calibration(predictions(3))
    pd.testing.assert_frame_equal(one[list(expected.columns)].reset_index(drop=True), expected)
    assert (one["classes"].unique().tolist(), one["task_slides"].unique().tolist()) == ([3], [200])


@pytest.mark.parametrize(("encoders", "tasks"), [(ELEVEN, 6), (["dino@2", "res50"], 1), (["res50"], 1)])
def test_nothing_overlaps(encoders: list[str], tasks: int) -> None:
    one = calibration(predictions(2 + tasks % 2)).assign(classes=2 + tasks % 2, task_slides=2000)
    parts = [one.assign(task=f"a_task_of_number_{n}", encoder=encoder) for n in range(tasks) for encoder in encoders]
    label = {encoders[-1]: f"{encoders[-1]} (random weights)"}
    figure = draw(pd.concat(parts, ignore_index=True), figures_settings(label))
    assert_readable(figure)
    assert [text for text, _ in texts(figure) if "random weights" in text] == list(label.values())


def test_few_slides_are_hollow_and_counts_add_up() -> None:
    table = calibration(predictions(slides=30)).assign(task="t", encoder="e", classes=2, task_slides=30)
    figure = draw(table, figures_settings({}))
    above, below = figure.axes
    hollow = sum(len(line.get_xdata()) for line in above.lines if line.get_markerfacecolor() == "white")
    assert hollow == (table["slides"] < 10).sum() > 0
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["e", "fewer than 10 different slides"]
    enough = draw(table.assign(slides=10), figures_settings({}))
    assert [text.get_text() for text in enough.legends[0].get_texts()] == ["e"]
    assert below.patches[0].get_data().values.sum() == pytest.approx(1)


@pytest.mark.parametrize(("encoders", "bars"), [(5, 5), (6, 0)])
def test_bars_are_drawn_of_few_encoders(encoders: int, bars: int) -> None:
    one = calibration(predictions()).assign(task="t", classes=2, task_slides=200)
    figure = draw(pd.concat([one.assign(encoder=name) for name in ELEVEN[:encoders]]), figures_settings({}))
    assert len(figure.axes[0].collections) == bars


def test_files(tmp_path: Path) -> None:
    paths = [write(tmp_path, "one", encoder, predictions()) for encoder in ("dino@2", "res50")]
    files = [tmp_path / f"calibration.{kind}" for kind in ("pdf", "png", "csv")]
    figure_calibration(paths, *files, figures_settings({}))
    assert_saved(files[0], files[1])
    assert len(pd.read_csv(files[2])) == 20
