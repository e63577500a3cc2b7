import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, t
from sklearn.metrics import roc_auc_score

from microtome.statistics import auc, bootstrap_means, curve, macro_auc, over_replicas, summary


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40))
def test_auc_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    targets, scores = zip(*[*pairs, (0, 2), (1, 2)], strict=True)
    assert auc(targets, scores) == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=30), st.integers(0, 99))
def test_macro_auc_is_scikit_learns(drawn: list[tuple[int, int]], seed: int) -> None:
    targets = np.array([*range(4), *(target for target, _ in drawn)])
    scores = np.round(np.random.default_rng(seed).random((len(targets), 4)), 1) + 0.01  # with ties
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    expected = roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    assert macro_auc(targets, probabilities) == pytest.approx(expected, abs=1e-12)


def test_macro_auc_of_two_classes_is_that_of_class_1() -> None:
    targets, scores = [0, 0, 1, 1], np.array([0.1, 0.7, 0.6, 0.9])
    assert macro_auc(targets, np.stack([1 - scores, scores], axis=1)) == 0.75


def test_summary_is_scipys_bootstrap() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.05, 20)
    reference = bootstrap((values,), np.mean, n_resamples=100_000, method="percentile", rng=1).confidence_interval
    found = summary(values, 100_000, seed=0)
    assert found.mean == values.mean()
    assert found.sd == values.std(ddof=1)
    assert found.low == pytest.approx(reference.low, abs=3e-4)
    assert found.high == pytest.approx(reference.high, abs=3e-4)


def test_summary_is_seeded() -> None:
    values = np.random.default_rng(0).random(20)
    assert summary(values, 1000, 3) == summary(values, 1000, 3) != summary(values, 1000, 4)


def test_bootstrap_covers_what_it_says() -> None:
    """Percentile intervals of means of 20 are a little short of 95 %: the t quantile and ddof make it about 93 %."""
    random = np.random.default_rng(0)
    intervals = [summary(random.normal(size=20), 500, seed) for seed in range(400)]
    covered = np.mean([interval.low < 0 < interval.high for interval in intervals])
    expected = 2 * t.cdf(1.96 * np.sqrt(19 / 20), df=19) - 1
    assert abs(covered - expected) < 0.04


def test_resamples_have_the_right_mean_and_spread() -> None:
    values = np.arange(20.0)
    means = bootstrap_means(values, 20_000, 0)
    assert means.mean() == pytest.approx(9.5, abs=0.05)
    assert means.std() == pytest.approx(values.std() / np.sqrt(20), rel=0.02)


def test_replicas_are_averaged_before_anything_else() -> None:
    runs = pd.DataFrame(
        {"split": [1, 1, 2, 2] * 2, "replica": [1, 2] * 4, "epoch": [0] * 4 + [1] * 4, "auc": [0.5, 0.7, 0.8, 0.8, 0.9, 1.0, 0.6, 0.8]}
    )
    assert over_replicas(runs, "auc").to_numpy().tolist() == pytest.approx(np.array([[0.6, 0.8], [0.95, 0.7]]))
    found = curve(runs, "auc", 1000, 0)
    assert found["epoch"].tolist() == [0, 1]
    assert found["mean"].tolist() == pytest.approx([0.7, 0.825])
    assert found.loc[0, ["low", "high"]].tolist() == pytest.approx([0.6, 0.8]), "two splits: the ends are the splits themselves"


def test_one_split_has_no_spread() -> None:
    found = summary(np.array([0.9]), 100, 0)
    assert found.mean == 0.9
    assert np.isnan([found.sd, found.low, found.high]).all()
    epochs = curve(pd.DataFrame({"split": 1, "replica": [1, 2] * 2, "epoch": [0, 0, 1, 1], "auc": [0.5, 0.7, 0.8, 0.9]}), "auc", 100, 0)
    assert epochs["mean"].tolist() == pytest.approx([0.6, 0.85])
    assert epochs[["low", "high"]].isna().all(axis=None)
