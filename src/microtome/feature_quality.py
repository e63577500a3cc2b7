"""How good features are, without the tasks' labels: ODCorr, and k-nearest-neighbour accuracy of the organ. RankMe is in `collapse`.

All take features [n, d] of a sample of tiles, in no order that matters.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        raise ValueError(f"expected at least 2 tiles, each of features that differ; found {n}, {int((sd == 0).sum())} of constant features")
    z = centred / sd
    squares = float(np.square(z.T @ z / d).sum()) - n  # the diagonal's n ones are left out
    return float(np.sqrt(max(squares, 0.0) / (n * (n - 1))))


def knn_accuracy(features: ArrayLike, labels: ArrayLike, slides: ArrayLike, neighbours: int) -> float:
    """How often the majority of a tile's nearest neighbours on other slides has its label, [n] each; the mean over labels of the share.

    Nearest by cosine; a tie goes to the label of the nearer tiles. The mean over labels makes 1 / labels the chance level, however
    many tiles each has. The tiles of a label that is on one slide only vote, but are not judged; NaN if no label is.
    """
    x = np.asarray(features, dtype=np.float32)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
    names, label = np.unique(np.asarray(labels), return_inverse=True)
    slide = np.unique(np.asarray(slides), return_inverse=True)[1]
    chunks = np.array_split(np.arange(len(x)), -(-len(x) // CHUNK))
    right = np.concatenate([_right(unit, label, slide, chunk, neighbours) for chunk in chunks])
    judged = [right[label == number].mean() for number in range(len(names)) if len(np.unique(slide[label == number])) > 1]
    return float(np.mean(judged)) if judged else float("nan")


def _right(
    unit: NDArray[np.float32], label: NDArray[np.intp], slide: NDArray[np.intp], chunk: NDArray[np.intp], neighbours: int
) -> NDArray[np.bool_]:
    similarity = unit[chunk] @ unit.T
    similarity[slide[chunk][:, None] == slide[None]] = -np.inf
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]  # [chunk, neighbours]
    there = np.isfinite(np.take_along_axis(similarity, nearest, axis=1))
    weight = there * (1 + 1e-6 * np.arange(nearest.shape[1], 0, -1))  # the nearer breaks a tie
    votes = np.zeros((len(chunk), label.max() + 1))
    np.add.at(votes, (np.arange(len(chunk))[:, None], label[nearest]), weight)
    return np.asarray(votes.argmax(axis=1) == label[chunk])
