"""A drawn piece of tissue: the stains of its organ whether it shows a lesion or not, at any resolution, and nuclei that tell."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from microtome.drawn_tissue import BOX, EVEN_UM, LESION_FRACTION, ORGANS, Piece, draw_piece

SEMI_AXES_UM = (150.0, 110.0)


def drawn(organ: str, lesion: bool = False, aligned: bool = False, mpp: float = 1.0, seed: int = 0) -> Piece:
    return draw_piece((seed, 3), SEMI_AXES_UM, mpp, ORGANS[organ], lesion, aligned)


@pytest.mark.parametrize("organ", ORGANS)
@pytest.mark.parametrize(("lesion", "aligned"), [(True, False), (False, True)])
def test_stains_are_the_organs_everywhere_whatever_is_shown(organ: str, lesion: bool, aligned: bool) -> None:
    """Local means over EVEN_UM: no colour gives a lesion away."""
    piece = drawn(organ, lesion, aligned)
    around = gaussian_filter(piece.tissue, EVEN_UM)
    inner = (around > 0.6) & (piece.tissue > 0.5)
    for stain, mean in ((piece.hematoxylin, ORGANS[organ].hematoxylin), (piece.eosin, ORGANS[organ].eosin)):
        assert stain[inner].mean() == pytest.approx(mean, rel=0.1)
        assert (gaussian_filter(stain, EVEN_UM) / np.maximum(around, 1e-3))[inner].std() < 0.1 * mean
        assert not stain[piece.tissue == 0].any()


def test_a_piece_has_its_area_in_a_box_that_holds_it() -> None:
    piece = drawn("lymph node")
    assert piece.tissue.shape == (round(BOX * SEMI_AXES_UM[1]), round(BOX * SEMI_AXES_UM[0]))
    assert piece.tissue.sum() == pytest.approx(np.pi * SEMI_AXES_UM[0] * SEMI_AXES_UM[1], rel=0.15)
    edges = np.concatenate([piece.tissue[0], piece.tissue[-1], piece.tissue[:, 0], piece.tissue[:, -1]])
    assert edges.max() == 0
    assert (piece.tissue.min(), piece.tissue.max()) == (0, 1)


def test_a_piece_is_the_same_at_half_the_resolution() -> None:
    fine, coarse = (drawn("breast", lesion=True, aligned=True, mpp=mpp) for mpp in (0.5, 1.0))
    height, width = coarse.tissue.shape
    for name in ("tissue", "hematoxylin", "eosin"):
        halved = cv2.resize(getattr(fine, name), (width, height), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(halved.ravel(), getattr(coarse, name).ravel())[0, 1] > 0.9, name
    assert np.corrcoef(coarse.hematoxylin.ravel(), drawn("breast", lesion=True, aligned=True, seed=1).hematoxylin.ravel())[0, 1] < 0.5


@pytest.mark.parametrize("organ", ORGANS)
def test_a_lesion_takes_its_part_of_the_same_piece_and_looks_different_there_alone(organ: str) -> None:
    plain, lesion = drawn(organ), drawn(organ, lesion=True)
    np.testing.assert_array_equal(plain.tissue, lesion.tissue)
    inner = plain.tissue > 0.5
    change = gaussian_filter(np.abs(lesion.hematoxylin - plain.hematoxylin), 5)
    assert (change > 0.2 * change[inner].max())[inner].mean() == pytest.approx(LESION_FRACTION, abs=0.08)
    contrast = [piece.eosin[piece.tissue > 0.9].std() for piece in (plain, lesion)]
    assert contrast[1] > 2 * contrast[0]  # clear cytoplasm within membranes


def test_aligned_fibres_have_one_direction() -> None:
    """Of the structure tensor of eosin: how much more it changes along one axis than along the other."""

    def coherence(aligned: bool) -> float:
        piece = drawn("breast", aligned=aligned)
        y, x = np.gradient(gaussian_filter(piece.eosin, 1.5))
        inner = gaussian_filter(piece.tissue, 6) > 0.95
        values = np.linalg.eigvalsh(np.cov(np.stack([x[inner], y[inner]])))
        return float((values[1] - values[0]) / values.sum())

    assert coherence(True) > coherence(False) + 0.1
