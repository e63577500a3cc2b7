"""Decisions and calibration against scikit-learn and scipy."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, recall_score, roc_curve, top_k_accuracy_score

from microtome.decisions import THRESHOLD, calibration, decision_overview, decision_table, decisions, operating_points, youden_threshold
from microtome.statistics import MONTE_CARLO
from tests.benchmark_runs import figures_settings
from tests.test_table_files import assert_tex


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), max_size=30))
def test_youden_is_the_best_point_of_scikit_learns_curve(pairs: list[tuple[int, int]]) -> None:
    targets, scores = (np.array(column) for column in zip(*[*pairs, (0, 1), (1, 4)], strict=True))
    called = scores / 6 > youden_threshold(targets, scores / 6)
    false_positive, true_positive, _ = roc_curve(targets, scores, drop_intermediate=False)
    found = called[targets == 1].mean() - called[targets == 0].mean()
    assert found == pytest.approx((true_positive - false_positive)[1:-1].max()), "the curve's ends call all slides alike"


def test_youden_by_hand() -> None:
    assert youden_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.4)
    assert youden_threshold([0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(0.35), "of 2/3 - 0 and 1 - 1/2 the larger"
    assert youden_threshold([0, 1], [0.7, 0.7]) == 0.5


def drawn(classes: int = 2, runs: int = 4, slides: int = 200) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frames = []
    for run in range(runs):
        p = random.dirichlet(np.ones(classes), slides)
        target = np.array([random.choice(classes, p=row) for row in p])
        threshold = 0.3 + 0.1 * run if classes == 2 else np.nan
        keys = {"split": run // 2 + 1, "replica": run % 2 + 1, "slide": [f"s{n}" for n in range(slides)], "threshold": threshold}
        frames.append(pd.DataFrame({"target": target, **{f"probability_{label}": p[:, label] for label in range(classes)}, **keys}))
    return pd.concat(frames, ignore_index=True)


def write(folder: Path, task: str, encoder: str, predictions: pd.DataFrame) -> Path:
    path = folder / "gma" / task / encoder / "predictions.parquet"
    path.parent.mkdir(parents=True)
    predictions.to_parquet(path)
    return path


def test_operating_points_are_scikit_learns() -> None:
    predictions = drawn()
    points = operating_points(predictions).set_index(["split", "replica"])
    for key, run in predictions.groupby(["split", "replica"]):
        called = run["probability_1"] > run["threshold"]
        expected = {
            "accuracy": accuracy_score(run["target"], called),
            "sensitivity": recall_score(run["target"], called),
            "specificity": recall_score(run["target"], called, pos_label=0),
            "brier": brier_score_loss(run["target"], run["probability_1"]),
        }
        assert points.loc[key].to_dict() == pytest.approx(expected)


@pytest.mark.parametrize("classes", [3, 11])  # 11: the columns are in the order of their numbers, not of their letters
def test_of_more_classes_the_most_probable_is_called(classes: int) -> None:
    predictions = drawn(classes)
    points = operating_points(predictions).set_index(["split", "replica"])
    for key, run in predictions.groupby(["split", "replica"]):
        p = run[[f"probability_{label}" for label in range(classes)]].to_numpy()
        assert points.loc[key, "accuracy"] == pytest.approx(top_k_accuracy_score(run["target"], p, k=1, labels=range(classes)))
        assert points.loc[key, "brier"] == pytest.approx(brier_score_loss(run["target"], p, labels=list(range(classes))))
        assert points.loc[key, ["sensitivity", "specificity"]].isna().all()
    even = predictions.assign(**{f"probability_{label}": 1 / classes for label in range(classes)})
    assert operating_points(even)["brier"].to_numpy() == pytest.approx(1 - 1 / classes)


def test_calibration_is_scikit_learns() -> None:
    predictions = drawn()
    frequency, probability = calibration_curve(predictions["target"], predictions["probability_1"], n_bins=10)
    table = calibration(predictions)
    assert table["tenth"].tolist() == list(range(10))
    assert table["frequency"].tolist() == pytest.approx(frequency.tolist())
    assert table["probability"].tolist() == pytest.approx(probability.tolist())
    assert table["predictions"].sum() == len(predictions)
    assert (table["slides"] <= table["predictions"]).all()
    assert table["slides"].max() <= 200
    assert (table["frequency"] - table["probability"]).abs().max() < 0.15, "drawn to be calibrated"


def test_of_more_classes_it_is_whether_the_call_is_right() -> None:
    predictions = drawn(3)
    p = predictions.filter(like="probability_").to_numpy()
    frequency, probability = calibration_curve(p.argmax(axis=1) == predictions["target"], p.max(axis=1), n_bins=10)
    table = calibration(predictions)
    assert table["frequency"].tolist() == pytest.approx(frequency.tolist())
    assert table["probability"].tolist() == pytest.approx(probability.tolist())


def test_the_interval_is_that_of_the_different_slides() -> None:
    predictions = drawn(runs=1)
    table, twice = calibration(predictions), calibration(pd.concat([predictions] * 2))
    for row in table.to_dict("records"):
        found = binomtest(round(row["frequency"] * row["slides"]), row["slides"]).proportion_ci(0.95, "wilson")
        assert (row["low"], row["high"]) == pytest.approx((found.low, found.high))
    assert twice["low"].tolist() == pytest.approx(table["low"].tolist()), "the same slides again make nothing surer"
    assert twice["predictions"].tolist() == (2 * table["predictions"]).tolist()


def test_the_ends_have_their_bins() -> None:
    ends = pd.DataFrame({"slide": ["a", "b"], "probability_0": [1.0, 0.0], "probability_1": [0.0, 1.0], "target": [0, 1]})
    assert calibration(ends)[["tenth", "frequency"]].to_numpy().tolist() == [[0, 0], [9, 1]]


def test_the_table_averages_replicas_and_then_splits(tmp_path: Path) -> None:
    runs = [("easy", "dino@1", drawn()), ("easy", "dino@2", drawn()), ("kinds", "dino@1", drawn(3)), ("kinds", "dino@2", drawn(3))]
    paths = [write(tmp_path, *run) for run in runs]
    decisions(paths, tmp_path, figures_settings({"dino@2": "DINO & co"}))
    table = pd.read_csv(tmp_path / "decisions.csv").set_index(["task", "encoder", "measure"])
    assert len(table) == 2 * 4 + 2 * 2, "no sensitivity and no specificity of three classes"
    points = operating_points(runs[0][2])
    splits = [points[points["split"] == split]["accuracy"].mean() for split in (1, 2)]
    row = table.loc["easy", "dino@1", "accuracy"]
    assert (row["mean"], row["sd"], row["splits"]) == pytest.approx((np.mean(splits), np.std(splits, ddof=1), 2))
    assert (row["low"], row["high"]) == pytest.approx((min(splits), max(splits))), "of two splits a resample takes one alone often enough"
    shown = (tmp_path / "decisions.md").read_text().splitlines()
    assert [name.strip() for name in shown[0].split("|")[1:-1]] == [
        "task",
        "encoder",
        "accuracy",
        "sensitivity",
        "specificity",
        "Brier score",
    ]
    assert len(shown) == 6, "a run with its last checkpoint, and the note"
    assert shown[-1] == f"Decisions: mean (sd) [95 % bootstrap interval] over splits. {THRESHOLD} {MONTE_CARLO}"
    assert f"{row['mean']:.3f} ({row['sd']:.3f}) [{row['low']:.3f}, {row['high']:.3f}]" in shown[2]
    assert_tex((tmp_path / "decisions.tex").read_text())


def test_of_one_split_there_is_the_mean_alone(tmp_path: Path) -> None:
    table = decision_table([write(tmp_path, "easy", "dino@1", drawn(runs=2))], figures_settings({}))
    assert table[["sd", "low", "high"]].isna().all(axis=None)
    (accuracy,) = decision_overview(table)["accuracy"]
    assert accuracy == f"{table['mean'][0]:.3f}"
