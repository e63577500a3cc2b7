"""What is said about 20 splits x 2 replicas: the AUC of a run, and the mean over splits with its bootstrap interval.

Validation sets of Monte-Carlo splits overlap, so splits are not independent samples: an interval over them tells how much the number
depends on the split, not how it would vary over new patients.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

MONTE_CARLO = (  # in every caption of the benchmark
    "Monte-Carlo cross-validation shows how a result depends on the split of these slides; validation sets of different splits overlap, "
    "so it does not show how it would vary over new patients. The last epoch is reported, not the best."
)


@dataclass(frozen=True)
class Summary:
    """A mean over splits, the standard deviation over splits, and the ends of the mean's confidence interval; of one split the mean alone,
    the others are NaN.
    """

    mean: float
    sd: float
    low: float
    high: float


def auc(targets: ArrayLike, scores: ArrayLike) -> float:
    """The area under the ROC curve: the chance that a slide of class 1 scores above one of class 0, ties counting half.

    It is the Mann-Whitney U statistic divided by the number of pairs. `targets` are 0 or 1, both of them present.
    """
    positive = np.asarray(targets) == 1
    ranks = pd.Series(np.asarray(scores)).rank().to_numpy()  # ties share their mean rank
    pairs = positive.sum() * (~positive).sum()
    return float((ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2) / pairs)


def macro_auc(targets: ArrayLike, probabilities: NDArray[np.float64]) -> float:
    """The AUC of a task: of class 1 where there are two classes, else the mean over classes of each one's AUC against the rest.

    Args:
        targets: [slides], 0 to k - 1, each of them present. probabilities: [slides, k].
    """
    classes = range(1, 2) if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    return float(np.mean([auc(np.asarray(targets) == label, probabilities[:, label]) for label in classes]))


def over_replicas(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """The mean of `column` over the replicas of each split: a row an epoch, a column a split. `runs`: split, replica, epoch, `column`."""
    return runs.groupby(["epoch", "split"])[column].mean().unstack("split")


def bootstrap_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of samples drawn with replacement from the last axis of `values`, [..., splits] -> [..., resamples].

    The same resamples of splits serve every leading index, so that curves have bands that are smooth along epochs.
    """
    splits = values.shape[-1]
    drawn = np.random.default_rng(seed).integers(splits, size=(resamples, splits))
    flat = drawn + splits * np.arange(resamples)[:, None]  # each resample counts in a row of its own
    weights = np.bincount(flat.ravel(), minlength=resamples * splits).reshape(resamples, splits) / splits
    return np.asarray(values @ weights.T)


def bootstrap_ends(
    values: NDArray[np.float64], resamples: int, seed: int, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ends of the percentile bootstrap interval of means over splits, [..., splits] -> 2 x [...]; NaN of a single split."""
    if values.shape[-1] == 1:
        unknown = np.full(values.shape[:-1], np.nan)
        return unknown, unknown
    tail = (1 - confidence) / 2
    low, high = np.quantile(bootstrap_means(values, resamples, seed), [tail, 1 - tail], axis=-1)
    return low, high


def summary(values: NDArray[np.float64], resamples: int, seed: int, confidence: float = 0.95) -> Summary:
    """Mean, sample standard deviation (ddof 1) and percentile bootstrap interval of the mean over the splits, [splits]."""
    low, high = bootstrap_ends(values, resamples, seed, confidence)
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Summary(float(values.mean()), sd, float(low), float(high))


def curve(runs: pd.DataFrame, column: str, resamples: int, seed: int, confidence: float = 0.95) -> pd.DataFrame:
    """Mean and bootstrap interval of `column` over splits, after averaging replicas: epoch, mean, low, high."""
    by_split = over_replicas(runs, column)
    low, high = bootstrap_ends(by_split.to_numpy(), resamples, seed, confidence)
    return pd.DataFrame({"epoch": by_split.index, "mean": by_split.mean(axis=1).to_numpy(), "low": low, "high": high})
