import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, recall_score, roc_curve

from microtome.decisions import calibration, operating_points, youden_threshold


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


def drawn(runs: int = 4) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frames = []
    for run in range(runs):
        probability = random.random(200)
        target = (random.random(200) < probability).astype(int)
        keys = {"split": run // 2 + 1, "replica": run % 2 + 1, "threshold": 0.3 + 0.1 * run}
        frames.append(pd.DataFrame({"target": target, "probability_1": probability, **keys}))
    return pd.concat(frames, ignore_index=True)


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


def test_calibration_is_scikit_learns() -> None:
    predictions = drawn()
    frequency, probability = calibration_curve(predictions["target"], predictions["probability_1"], n_bins=10)
    table = calibration(predictions)
    assert table["frequency"].tolist() == pytest.approx(frequency.tolist())
    assert table["probability"].tolist() == pytest.approx(probability.tolist())
    assert table["slides"].sum() == len(predictions)
    assert (table["frequency"] - table["probability"]).abs().max() < 0.15, "drawn to be calibrated"


def test_the_ends_have_their_bins() -> None:
    table = calibration(pd.DataFrame({"probability_1": [0.0, 1.0], "target": [0, 1]}))
    assert table["frequency"].tolist() == [0, 1]
