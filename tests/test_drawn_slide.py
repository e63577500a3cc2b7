"""The demo's texture task can come out right or wrong: untrained features find it, permuted labels and mean colour do not."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from microtome.bags import Bags
from microtome.demo import plan
from microtome.drawn_slide import draw_slide
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
