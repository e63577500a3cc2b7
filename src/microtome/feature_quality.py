"""How good features are, without the tasks' labels: ODCorr, and k-nearest-neighbour accuracy of the organ. RankMe is in `collapse`.

All take features [n, d] of a sample of tiles, in no order that matters.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from microtome.errors import UserError

CHUNK = 1024  # tiles whose similarities to all others are held at once


def odcorr(features: ArrayLike) -> float:
    """Off-diagonal correlation (kaiko.ai 2024): root mean square of Pearson's correlation between the features of any two tiles.

    Between 0 and 1; lower is better: tiles that differ are to have features that differ. With each row z standardised over its d
    dimensions, the n x n correlations are C = Z Zᵀ / d, and |C| (Frobenius) is |Zᵀ Z| / d: O(n d²) and no n x n matrix.
    A tile whose features are all alike has no correlation and is an error.
    """
    x = np.asarray(features, dtype=np.float64)
    n, d = x.shape
    centred = x - x.mean(axis=1, keepdims=True)
    sd = centred.std(axis=1, keepdims=True)
    if n < 2 or (sd == 0).any():
        raise UserError(
            f"ODCorr needs at least 2 tiles, each of features that differ; found {n}, {int((sd == 0).sum())} of constant features."
        )
    z = centred / sd
    squares = float(np.square(z.T @ z / d).sum()) - n  # the diagonal's n ones are left out
    return float(np.sqrt(max(squares, 0.0) / (n * (n - 1))))


def judged_labels(labels: ArrayLike, groups: ArrayLike) -> list[Any]:
    """The labels that tiles of more than one group have, sorted: those that `knn_accuracy` is a mean over."""
    pairs = pd.DataFrame({"label": np.asarray(labels), "group": np.asarray(groups)})
    count = pairs.groupby("label")["group"].nunique()
    return list(count.index[count > 1])


def knn_accuracy(features: ArrayLike, labels: ArrayLike, groups: ArrayLike, neighbours: int) -> float:
    """How often the majority of a tile's nearest neighbours of other groups has its label, [n] each; the mean over labels of the share.

    A group is a patient or a slide: what lies together must not vote for itself. Nearest by cosine; a tie goes to the label of the nearer
    tiles. The mean over labels makes 1 / labels the chance level, however many tiles each has. The tiles of a label that one group alone
    has vote, but are not judged; NaN if no label is.
    """
    x = np.asarray(features, dtype=np.float32)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
    names, label = np.unique(np.asarray(labels), return_inverse=True)
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    chunks = np.array_split(np.arange(len(x)), -(-len(x) // CHUNK))
    right = np.concatenate([_right(unit, label, group, chunk, neighbours) for chunk in chunks])
    judged = [right[label == np.searchsorted(names, name)].mean() for name in judged_labels(labels, groups)]
    return float(np.mean(judged)) if judged else float("nan")


def _right(
    unit: NDArray[np.float32], label: NDArray[np.intp], group: NDArray[np.intp], chunk: NDArray[np.intp], neighbours: int
) -> NDArray[np.bool_]:
    distance = -(unit[chunk] @ unit.T)
    distance[group[chunk][:, None] == group[None]] = np.inf
    count = min(neighbours, len(unit))
    nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]  # [chunk, count], in no order
    of_nearest = np.take_along_axis(distance, nearest, axis=1)
    order = np.argsort(of_nearest, axis=1, kind="stable")
    nearest, there = np.take_along_axis(nearest, order, axis=1), np.isfinite(np.take_along_axis(of_nearest, order, axis=1))
    weight = there * (1 + 1e-6 * np.arange(count, 0, -1))  # the nearer breaks a tie
    votes = np.zeros((len(chunk), label.max() + 1))
    np.add.at(votes, (np.arange(len(chunk))[:, None], label[nearest]), weight)
    return np.asarray(votes.argmax(axis=1) == label[chunk])
