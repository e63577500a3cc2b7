"""Figure 2: means over splits after averaging replicas, with the bootstrap interval of that mean."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from scipy.stats import bootstrap

from microtome.figure_convergence import draw, drawn, figure_convergence
from microtome.runs import read_runs
from tests.benchmark_runs import figures_settings, write_runs
from tests.figure_checks import assert_readable, assert_saved, texts

ELEVEN = [
    "dino_vits16@25",
    "mae_vitl16@50",
    "tres50",
    "res50",
    "uni",
    "virchow2",
    "gigapath",
    "phikon",
    "ctranspath",
    "h-optimus-0",
    "hibou",
]


def test_means_are_over_splits_after_averaging_replicas(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, ["texture"], ["res50"], splits=20)
    table = drawn(read_runs(paths), figures_settings({}))
    runs = pd.read_csv(paths[0])
    for measure in ("loss", "auc"):
        rows = table[table["measure"] == measure].set_index("epoch")
        assert list(rows.index) == ([0] if measure == "auc" else []) + [1, 2, 3, 4]  # no training loss before training
        for epoch, row in rows.iterrows():
            splits = runs[runs["epoch"] == epoch].groupby("split")[measure].mean().to_numpy()
            assert row["value"] == pytest.approx(splits.mean())
            reference = bootstrap((splits,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
            assert (row["low"], row["high"]) == pytest.approx((reference.low, reference.high), abs=0.15 * splits.std())


def test_single_runs_are_there_when_asked_for(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, ["texture"], ["res50"])
    table = drawn(read_runs(paths), figures_settings({}, single_runs=True))
    single = table.dropna(subset="split").query("measure == 'auc'")
    runs = pd.read_csv(paths[0])
    assert single["value"].to_numpy() == pytest.approx(runs["auc"].to_numpy())
    assert drawn(read_runs(paths), figures_settings({}))["split"].isna().all()
    faint = [one for one in draw(table, figures_settings({})).axes[1].collections if isinstance(one, LineCollection)]
    assert [len(one.get_segments()) for one in faint] == [10], "5 splits x 2 replicas"


def test_a_run_is_shown_by_its_last_checkpoint_and_random_weights_are_named(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, ["texture"], ["dino@1", "dino@5", "res50"])
    files = [tmp_path / f"convergence.{kind}" for kind in ("pdf", "png", "csv")]
    settings = figures_settings({"dino@1": "dino@1", "dino@5": "dino@5", "res50": "res50 (random weights)"})
    figure_convergence(paths, *files, settings)
    assert_saved(files[0], files[1])
    table = pd.read_csv(files[2])
    assert table["encoder"].unique().tolist() == ["dino@5", "res50"]
    assert "res50 (random weights)" in [text for text, _ in texts(draw(table, settings))]


@pytest.mark.parametrize(("tasks", "encoders"), [(1, 1), (1, 2), (1, 11), (2, 2), (6, 11)])
def test_nothing_overlaps(tmp_path: Path, tasks: int, encoders: int) -> None:
    paths = write_runs(tmp_path, [f"a_task_of_number_{n}" for n in range(tasks)], ELEVEN[:encoders], splits=3)
    settings = figures_settings({name: f"{name} (random weights)" for name in ELEVEN[2:4]})
    figure = draw(drawn(read_runs(paths), settings), settings)
    assert len(figure.axes) == 2 * tasks
    assert_readable(figure)
    assert figure.get_figwidth() * 25.4 == pytest.approx(89 if tasks == 1 else 183)


def test_encoders_are_told_apart(tmp_path: Path) -> None:
    settings = figures_settings({name: name for name in ELEVEN})
    figure = draw(drawn(read_runs(write_runs(tmp_path, ["texture"], ELEVEN, splits=3)), settings), settings)
    looks = {(line.get_color(), str(line.get_linestyle()), str(line._dash_pattern)) for line in figure.legends[0].get_lines()}
    assert len(looks) == len(ELEVEN)
