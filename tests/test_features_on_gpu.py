"""On a GPU: the features of a CPU, of convolutions and of transformers, whatever the batch size."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from microtome.encoders import load_encoder
from microtome.features import encode
from microtome.slide_tiles import SlideTiles, locate
from tests.test_encoders import settings
from tests.tile_folder import slide_table, write_tiles

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
MODELS = [{"timm": "resnet50.tv_in1k", "truncate": "layer3", "pooling": "model"}, {"timm": "vit_tiny_patch16_224"}]


@pytest.fixture
def slides(tmp_path: Path) -> list[SlideTiles]:
    write_tiles(tmp_path, slide_table({"lung": [1, 17, 2, 30, 9]}, shards=1))
    return [locate(row, tmp_path) for row in pd.read_parquet(tmp_path / "0.parquet").itertuples()]


def features(slides: list[SlideTiles], model: dict[str, object], batch: int = 64) -> np.ndarray:
    """Of all tiles, as large as they are: CPUs resize whole grey levels, GPUs floats that are rounded to them."""
    asked = settings(**{**model, "input_px": slides[0].tile_px})
    return np.concatenate([values for _, values in encode(load_encoder(asked, None), slides, asked, batch, 2)])


@pytest.mark.parametrize("model", MODELS)
def test_features_are_those_of_a_cpu(slides: list[SlideTiles], model: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True  # as another use may have left them
    found = features(slides, model)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    expected = features(slides, model)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("model", MODELS)
def test_batch_size_does_not_matter(slides: list[SlideTiles], model: dict[str, object]) -> None:
    together = features(slides, model)
    for batch in (1, 7):
        np.testing.assert_allclose(features(slides, model, batch), together, rtol=0, atol=1e-5 * np.abs(together).max())
