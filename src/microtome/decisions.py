"""From probabilities to decisions: a threshold chosen on the training slides, and what it does on the validation slides.

AUC asks whether slides are ranked rightly; this asks whether the probabilities can be used as they are. Targets are 0 or 1, both present:
a task of more classes has no single threshold.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

BINS = 10


def youden_threshold(targets: ArrayLike, probabilities: ArrayLike) -> float:
    """The threshold with the largest sensitivity + specificity (Youden 1950), half way between two slides' probabilities of class 1.

    Of several the lowest; 0.5 where all probabilities are the same. A slide is called positive above it.
    """
    positive, p = np.asarray(targets) == 1, np.asarray(probabilities, dtype=np.float64)
    distinct = np.unique(p)
    if len(distinct) == 1:
        return 0.5
    cuts = (distinct[:-1] + distinct[1:]) / 2
    missed = np.searchsorted(np.sort(p[positive]), cuts, side="right") / positive.sum()
    spared = np.searchsorted(np.sort(p[~positive]), cuts, side="right") / (~positive).sum()
    return float(cuts[np.argmax(spared - missed)])


def operating_points(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row a run: split, replica, accuracy, sensitivity, specificity (at the run's threshold) and brier.

    The Brier score is the mean square of probability minus target: 0 is perfect, 0.25 is what 0.5 for every slide gives.

    Args:
        predictions: of validation slides, as `gma` writes them: split, replica, target, probability_1, threshold.
    """
    called, positive = predictions["probability_1"] > predictions["threshold"], predictions["target"] == 1
    right = (called == positive).astype(float)
    judged = predictions[["split", "replica"]].assign(
        accuracy=right,
        sensitivity=right.where(positive),
        specificity=right.where(~positive),
        brier=(predictions["probability_1"] - predictions["target"]) ** 2,
    )
    return judged.groupby(["split", "replica"]).mean().reset_index()


def calibration(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row for each tenth of the probabilities' range that has slides: probability (mean), frequency (of class 1), slides.

    Of a calibrated classifier the two are the same. The runs' predictions are taken together, so a slide counts as often as it validates.
    """
    bins = (predictions["probability_1"] * BINS).astype(int).clip(upper=BINS - 1)
    groups = predictions.groupby(bins)
    return pd.DataFrame(
        {"probability": groups["probability_1"].mean(), "frequency": groups["target"].mean(), "slides": groups.size()}
    ).reset_index(drop=True)
