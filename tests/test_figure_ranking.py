"""The ranking: encoders in the order of their means, readable with two and with eleven."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.comparisons import aucs_on_the_same_slides, ranking
from microtome.figure_ranking import draw, figure_ranking
from tests.benchmark_runs import figures_settings, random_aucs, write_predictions
from tests.figure_checks import assert_readable, assert_saved, texts
from tests.test_figure_convergence import ELEVEN


def test_encoders_stand_in_the_order_of_their_mean_final_auc(tmp_path: Path) -> None:
    paths = write_predictions(tmp_path, ["texture", "other"], ["dino@1", "dino@4", "res50", "tres50"])
    files = [tmp_path / f"ranking.{kind}" for kind in ("pdf", "png", "csv")]
    settings = figures_settings({"dino@4": "dino@4", "res50": "res50 (random weights)"})
    figure_ranking(paths, *files, settings)
    assert_saved(files[0], files[1])
    table = pd.read_csv(files[2])
    aucs = aucs_on_the_same_slides(paths)
    means = {key: of_one["auc"].mean() for key, of_one in aucs.groupby(["task", "encoder"])}
    for task, of_task in table.groupby("task"):
        assert set(of_task["encoder"]) == {"dino@4", "res50", "tres50"}
        assert of_task["mean"].tolist() == pytest.approx(sorted((means[task, e] for e in of_task["encoder"]), reverse=True))
        assert of_task["mean"].tolist() == pytest.approx([means[task, e] for e in of_task["encoder"]])
    shown = [text for text, _ in texts(draw(table, settings))]
    assert "res50 (random weights)" in shown
    assert shown.count("rank") == 2


@pytest.mark.parametrize(("tasks", "encoders"), [(1, 1), (1, 2), (2, 4), (3, 11)])
def test_nothing_overlaps(tasks: int, encoders: int) -> None:
    aucs = random_aucs([f"a_task_of_number_{n}" for n in range(tasks)], ELEVEN[:encoders])
    settings = figures_settings({name: f"{name} (random weights)" for name in ELEVEN[2:4]})
    assert_readable(draw(ranking(aucs, 100, 0), settings))
