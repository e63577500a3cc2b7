"""Drawn slides: their colours and files, and a task that can come out right or wrong: untrained features find it, mean colour does not."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from microtome.bags import Bags
from microtome.demo import plan
from microtome.drawn_slide import PENS, Drawing, draw_slide, mean_colour, write_pyramid
from microtome.drawn_tissue import ORGANS
from microtome.encoder_config import TimmEncoder
from microtome.encoders import load_encoder
from microtome.gma_training import Split
from microtome.settings import EncoderSettings
from microtome.statistics import auc
from tests.test_gma_training import settings, train_one

TILE_PX = 128
PAIRS = 10  # slides 2p and 2p + 1 are the negative and the positive of pair p
TARGETS = np.arange(2 * PAIRS) % 2
PERMUTED = [np.where(np.arange(2 * PAIRS) // 2 % 2 == kept, TARGETS, 1 - TARGETS) for kept in (0, 1)]  # half of the pairs swapped


def tiles_of(level0: np.ndarray) -> np.ndarray:
    """Tiles that are at least a third tissue, [n, 128, 128, 3] uint8."""
    height, width = (side // TILE_PX * TILE_PX for side in level0.shape[:2])
    grid = level0[:height, :width].reshape(height // TILE_PX, TILE_PX, width // TILE_PX, TILE_PX, 3).swapaxes(1, 2)
    tiles = grid.reshape(-1, TILE_PX, TILE_PX, 3)
    tissue = (np.abs(tiles - level0[0, 0].astype(int)).max(3) > 12).mean((1, 2))
    pen = (tiles[..., 0] < 60).mean((1, 2)) > 0.05  # no stain is as far from red as a blue or green pen
    return tiles[(tissue > 1 / 3) & ~pen]


@pytest.mark.parametrize(("organ", "pieces"), list(zip(ORGANS, (1, 2, 3, 3), strict=True)))
def test_tissue_has_the_stated_mean_colour_whatever_it_shows(organ: str, pieces: int) -> None:
    plain = Drawing((0, 5), 2, organ, 1.0, 0.35, pieces, lesion=False, aligned=False, pen=None)
    shown = [draw_slide(dataclasses.replace(plain, lesion=lesion, aligned=aligned)) for lesion, aligned in ((0, 0), (1, 0), (0, 1))]
    ground = shown[0][0, 0].astype(int)
    tissue = np.any([np.abs(image - ground).max(2) > 25 for image in shown], axis=0)  # of one outline
    means = np.stack([image[tissue].mean(0) for image in shown])
    np.testing.assert_allclose(means, np.broadcast_to(mean_colour(plain), (3, 3)), atol=6)
    assert np.ptp(means, axis=0).max() < 1.5
    stained = draw_slide(dataclasses.replace(plain, immunostain=True))
    assert stained[tissue].mean(0)[2] < means[0, 2] - 10  # brown has less blue


def test_a_pen_is_on_the_glass_and_a_fragment_is_hardly_there() -> None:
    none = Drawing((0, 6), 0, "liver", 1.0, 0.5, 0, lesion=False, aligned=False, pen=None)
    image, ground = draw_slide(none), draw_slide(none)[0, 0]
    assert 0 < (np.abs(image.astype(int) - ground).max(2) > 12).mean() < 0.01
    for pen, colour in PENS.items():
        marked = draw_slide(dataclasses.replace(none, pen=pen))
        assert 0.005 < (marked == colour).all(2).mean() < 0.1
    assert not any((image == colour).all(2).any() for colour in PENS.values())


def test_levels_are_halves_down_to_the_smallest(tmp_path: Path) -> None:
    level0 = draw_slide(Drawing((0, 7), 0, "breast", 0.25, 0.35, 2, lesion=True, aligned=False, pen="blue"))
    write_pyramid(tmp_path / "a.tiff", level0, 0.25, "drawn")
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        levels, pages = [page.asarray() for page in file.pages], list(file.pages)
    assert [level.shape[:2] for level in levels] == [tuple(side // 2**n for side in level0.shape[:2]) for n in range(3)]
    assert min(levels[-1].shape[:2]) < 2 * 200 <= min(levels[-2].shape[:2])
    assert [page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] for page in pages] == [40_000, 20_000, 10_000]
    assert [page.description for page in pages] == ["drawn", "", ""]
    for level in levels:
        reduced = cv2.resize(level0, level.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(level.astype(int) - reduced).mean() < 4


@pytest.fixture(scope="module")
def slides() -> list[np.ndarray]:
    drawings = [row.drawing for row in plan(0, 2 * PAIRS + 4, 0.4) if row.texture is not None]
    cv2.setNumThreads(1)
    return [tiles_of(draw_slide(dataclasses.replace(drawing, mpp=0.5))) for drawing in drawings]


@pytest.fixture(scope="module")
def bags(slides: list[np.ndarray]) -> Bags:
    timm = TimmEncoder(
        timm="resnet50.tv_in1k", weights="random", arguments={}, normalization=None, truncate="layer3", pooling="model", input_px=TILE_PX
    )
    encoder = load_encoder(
        EncoderSettings(version=1, source="tiles", fast_path=True, seed=0, name="tres50", encoder=timm, precision="fp32", dtype="float32"),
        None,
    )
    features = torch.cat([encoder(torch.from_numpy(tiles)) for tiles in slides])
    first = [0, *np.cumsum([len(tiles) for tiles in slides]).tolist()]
    return Bags([str(n) for n in range(len(slides))], torch.from_numpy(TARGETS), features, first)


def splits() -> list[Split]:
    """Splits that hold out four pairs each."""
    random, everything = np.random.default_rng(0), np.arange(2 * PAIRS)
    held = [np.isin(everything // 2, random.choice(PAIRS, 4, replace=False)) for _ in range(5)]
    return [Split(number + 1, everything[~out], everything[out]) for number, out in enumerate(held)]


def final_auc(bags: Bags, targets: np.ndarray) -> float:
    """The mean AUC of the last epoch over the splits."""
    labelled = dataclasses.replace(bags, targets=torch.from_numpy(targets))
    learning = settings(hidden=64, attention=32, epochs=12, warmup_epochs=2, lr=0.001)
    return float(np.mean([train_one(labelled, split, 1, learning).epochs[-1].auc for split in splits()]))


def test_untrained_features_and_attention_find_the_true_labels_and_not_permuted_ones(bags: Bags) -> None:
    torch.set_num_threads(1)
    true = final_auc(bags, TARGETS)
    assert true > 0.8
    assert np.mean([final_auc(bags, targets) for targets in PERMUTED]) == pytest.approx(0.5, abs=0.15)


def test_mean_colour_finds_nothing(slides: list[np.ndarray]) -> None:
    colours = np.stack([tiles.mean((0, 1, 2)) for tiles in slides])
    aucs = []
    for split in splits():
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(colours[split.train], TARGETS[split.train])
        aucs.append(auc(TARGETS[split.val], model.decision_function(colours[split.val])))
    assert np.mean(aucs) < 0.65
