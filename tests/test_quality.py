"""One encoder on the sample: features in its order, measures that are those of the definitions, and nulls that are told as such."""

import io
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from microtome.collapse import rankme
from microtome.encoders import load_encoder
from microtome.errors import UserError
from microtome.feature_quality import knn_accuracy, odcorr
from microtome.pretrain import build_algorithm
from microtome.quality import is_null, quality, untrained_encoder
from microtome.quality_sample import quality_sample
from microtome.settings import EncoderSettings, PretrainSettings
from microtome.training_schedules import Length
from tests.stage_settings import RES18, encoder_settings
from tests.test_quality_sample import catalog_of, settings
from tests.tile_folder import slide_table, tile_jpeg
from tests.training import small_settings

RUN = {"run": "dino", "pseudo_epochs": [], "pooling": "cls", "input_px": 32}


@pytest.fixture
def sample(tmp_path: Path) -> pd.DataFrame:
    """A sample of 24 tiles of two organs; files are under tmp_path."""
    catalog_of(tmp_path, slide_table({"breast": [5, 3, 9], "lung": [7, 1, 4]}))
    quality_sample(tmp_path / "catalog.parquet", tmp_path / "tiles", tmp_path / "sample.parquet", settings(24, 6))
    return pd.read_parquet(tmp_path / "sample.parquet")


def judge(folder: Path, given: EncoderSettings, batch: int = 7, untrained: PretrainSettings | None = None) -> tuple[np.ndarray, pd.Series]:
    """The rule: features, and the one row of measures."""
    files = [folder / given.name / "features.h5", folder / given.name / "measures.csv"]
    quality(folder / "sample.parquet", folder / "tiles", *files, 3, batch, 1, given, untrained=untrained)
    with h5py.File(files[0]) as file:
        features = np.asarray(file["features"])
    return features, pd.read_csv(files[1]).iloc[0]


def test_features_are_those_of_the_samples_tiles_in_its_order(tmp_path: Path, sample: pd.DataFrame) -> None:
    features, row = judge(tmp_path, encoder_settings())
    assert features.shape == (len(sample), 512) == (row["tiles"], row["dim"])
    jpegs = [tile_jpeg(slide, tile, 32) for slide, tile in zip(sample["slide"], sample["tile"], strict=True)]
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]))
    np.testing.assert_allclose(features, load_encoder(encoder_settings(), None)(pixels).numpy(), rtol=1e-4, atol=1e-5)


def test_measures_are_those_of_the_features_with_patients_held_out(tmp_path: Path, sample: pd.DataFrame) -> None:
    features, row = judge(tmp_path, encoder_settings())
    assert row["rankme"] == pytest.approx(float(rankme(torch.from_numpy(features))), rel=1e-5)
    assert row["odcorr"] == pytest.approx(odcorr(features), rel=1e-5)
    assert row["knn_accuracy"] == pytest.approx(knn_accuracy(features, sample["organ"], sample["patient"], 3), rel=1e-5)
    assert (row["organs"], row["chance"]) == (2, 0.5)
    one_patient = sample.assign(patient="one")
    one_patient.to_parquet(tmp_path / "sample.parquet")
    row = judge(tmp_path, encoder_settings())[1]
    assert row["organs"] == 0
    assert row[["knn_accuracy", "chance"]].isna().all()


@pytest.mark.parametrize("algorithm", ["dino", "mae"])
def test_the_null_of_a_run_is_what_it_starts_from(algorithm: str) -> None:
    run = small_settings(algorithm)
    given = encoder_settings("run@0", encoder=RUN)
    encoder, start = untrained_encoder(given, run), build_algorithm(run, Length(5, 4))
    weights = start.encoder.state_dict()
    assert weights
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert encoder.preparation == (32, 32, tuple(run.recipe.mean), tuple(run.recipe.std))


def test_random_weights_are_nulls(tmp_path: Path, sample: pd.DataFrame) -> None:
    assert judge(tmp_path, encoder_settings())[1]["null"]
    features, row = judge(tmp_path, encoder_settings("run@0", encoder=RUN), untrained=small_settings("dino"))
    assert row["null"]
    assert row["encoder"] == "run@0"
    assert features.shape == (24, 64)
    assert not is_null(encoder_settings("run@1", encoder=RUN | {"pseudo_epochs": [1]}))
    assert not is_null(encoder_settings(encoder=RES18 | {"weights": "pretrained"}))


def test_a_tile_that_cannot_be_read_is_told(tmp_path: Path, sample: pd.DataFrame) -> None:
    sample.assign(offset_b=sample["offset_b"] + 1).to_parquet(tmp_path / "sample.parquet")
    with pytest.raises(UserError, match=r"(?s)sample's tiles of slide slide000 have no features: .*raise quality.version"):
        judge(tmp_path, encoder_settings())
    assert not (tmp_path / "res18").exists()
