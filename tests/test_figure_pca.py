"""Principal components are those of an eigen decomposition; organs beyond the colours are grey; panels are readable."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microtome.figure_pca import ORGAN_COLOURS, SHOWN, coloured_organs, components, draw, drawn, figure_pca
from tests.benchmark_runs import figures_settings
from tests.figure_checks import assert_readable, assert_saved, texts
from tests.quality_runs import write_features
from tests.test_figure_checkpoints import BASELINES

RUNS = ["dino_vits16@0", "dino_vits16@25", "mae_vitl16@0", "mae_vitl16@50"]
LABELS = {name: f"{name} (random weights)" for name in (RUNS[0], RUNS[2], "tres50")}


@pytest.mark.parametrize("shape", [(60, 8), (9, 30)])
def test_components_are_those_of_the_covariance(shape: tuple[int, int]) -> None:
    features = np.random.default_rng(0).normal(size=shape) * np.linspace(3, 0.1, shape[1]) + 7
    scores, shares = components(features.astype(np.float32))
    centred = features - features.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(features) - 1))
    np.testing.assert_allclose(shares, values[:-3:-1] / values.sum(), rtol=1e-5)
    np.testing.assert_allclose(np.abs(scores), np.abs(centred @ vectors[:, :-3:-1]), rtol=1e-4, atol=1e-4)


def test_a_collapsed_encoder_has_no_variance_to_explain() -> None:
    with np.errstate(invalid="ignore"):
        assert components(np.full((5, 4), 2.0))[1].tolist() == [0, 0]


def test_the_organs_of_most_slides_are_coloured(tmp_path: Path) -> None:
    sample, features = write_features(tmp_path, ["res50"], 12, 240)
    tiles = pd.read_parquet(sample)
    assert coloured_organs(tiles) == [f"organ {number}" for number in range(11, 2, -1)]
    table = drawn(tiles, features, 0)
    assert set(table["organ"][table["colour"] == "other"]) == {"organ 0", "organ 1", "organ 2"}
    shown = [text for text, _ in texts(draw(table, coloured_organs(tiles), figures_settings({})))]
    assert "3 other organs" in shown
    assert "organ 11" in shown


def test_files_and_the_same_tiles_in_each_panel(tmp_path: Path) -> None:
    sample, features = write_features(tmp_path, RUNS[:2], 3, 2 * SHOWN)
    files = [tmp_path / f"pca.{kind}" for kind in ("pdf", "png", "csv")]
    figure_pca(sample, features, *files, figures_settings(LABELS))
    assert_saved(files[0], files[1])
    assert files[0].stat().st_size < 1_000_000, "points are a raster in the PDF"
    table = pd.read_csv(files[2])
    one, other = (table[table["encoder"] == name].reset_index() for name in RUNS[:2])
    assert len(one) == SHOWN
    assert one[["slide", "tile", "organ"]].equals(other[["slide", "tile", "organ"]])


@pytest.mark.parametrize(("encoders", "organs"), [(["res50"], 3), (RUNS[:2], 2), ([*RUNS, *BASELINES], len(ORGAN_COLOURS) + 3)])
def test_nothing_overlaps(tmp_path: Path, encoders: list[str], organs: int) -> None:
    sample, features = write_features(tmp_path, encoders, organs, 60)
    tiles = pd.read_parquet(sample)
    figure = draw(drawn(tiles, features, 0), coloured_organs(tiles), figures_settings(LABELS))
    assert_readable(figure)
    assert sum("(random weights)" in text for text, _ in texts(figure)) == sum(name in LABELS for name in encoders)
