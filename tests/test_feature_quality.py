import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from microtome.errors import UserError
from microtome.feature_quality import knn_accuracy, odcorr


def naive_odcorr(features: np.ndarray) -> float:
    """The definition: every pair's Pearson correlation."""
    correlations = np.corrcoef(features)
    pairs = correlations[~np.eye(len(features), dtype=bool)]
    return float(np.sqrt(np.mean(pairs**2)))


@given(st.integers(2, 40), st.integers(2, 30), st.integers(0, 100))
def test_odcorr_is_the_definition(n: int, d: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(n, d)) + 0.3
    assert odcorr(features) == pytest.approx(naive_odcorr(features), rel=1e-6, abs=1e-7)


def test_odcorr_at_its_ends() -> None:
    alike = np.tile(np.arange(5.0), (10, 1)) * np.arange(1, 11)[:, None]
    assert odcorr(alike) == pytest.approx(1)
    d = 2000
    assert odcorr(np.random.default_rng(0).normal(size=(50, d))) == pytest.approx(1 / np.sqrt(d - 1), rel=0.05), "independent features"


def test_odcorr_of_constant_features() -> None:
    with pytest.raises(UserError, match="1 of constant features"):
        odcorr([[1.0, 2.0], [3.0, 3.0]])


def clusters(spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """300 tiles of 3 organs of 4 slides each: a slide's tiles share a shift of their own."""
    random = np.random.default_rng(seed)
    organ, slide = np.repeat(np.arange(3), 100), np.repeat(np.arange(12), 25)
    centres = 3 * np.eye(3, 16)[organ]
    return centres + spread * random.normal(size=(12, 16))[slide] + 0.3 * random.normal(size=(300, 16)), organ, slide


def test_knn_is_scikit_learns_with_slides_held_out() -> None:
    features, organ, slide = clusters(1.2)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    right = np.zeros(300)
    for held_out in range(12):
        rest = slide != held_out
        model = KNeighborsClassifier(15, metric="euclidean").fit(unit[rest], organ[rest])  # of unit vectors: the order of the cosine
        right[~rest] = model.predict(unit[~rest]) == organ[~rest]
    expected = np.mean([right[organ == name].mean() for name in range(3)])
    assert expected < 1
    assert knn_accuracy(features, organ, slide, 15) == pytest.approx(expected, abs=0.01), "but for ties"


def test_the_tiles_own_slide_does_not_vote() -> None:
    """Slides that are alike within and differ between: with its own slide a tile would always be right."""
    random = np.random.default_rng(0)
    slide = np.repeat(np.arange(40), 10)
    features = 5 * random.normal(size=(40, 16))[slide] + 0.01 * random.normal(size=(400, 16))
    assert 0.25 < knn_accuracy(features, slide % 2, slide, 5) < 0.75


def test_labels_of_one_slide_only_are_left_out() -> None:
    features, organ, slide = clusters(0.1)
    lonely = np.where(slide == 0, 7, organ)
    features[slide == 0, 5] += 20
    assert knn_accuracy(features, lonely, slide, 5) == 1
    assert np.isnan(knn_accuracy(features, slide, slide, 5))
