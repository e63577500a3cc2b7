"""Neighbours: those of scikit-learn, never of the same patient, the same queries for every encoder, and drawn as what they are."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from microtome.errors import UserError
from microtome.figure_neighbours import FRAME_PX, MARK, OTHER, SAME, answers, by_chance, draw, figure_neighbours, nearest, queries
from microtome.figure_style import save
from microtome.quality_sample import quality_sample
from microtome.tile_sheet import GAP_PX, LINE_PX
from tests.figure_checks import assert_readable, assert_saved, texts
from tests.test_quality_sample import catalog_of, settings
from tests.tile_folder import slide_table, tile_jpeg


def drawn_sample(tiles: int = 60, patients: int = 6, organs: int = 3) -> pd.DataFrame:
    """A slide a patient, two patients an organ."""
    patient = np.arange(tiles) * patients // tiles
    table: dict[str, Any] = {"slide": [f"slide_{p}" for p in patient], "patient": [f"patient_{p}" for p in patient]}
    table |= {"organ": [f"organ {p * organs // patients}" for p in patient], "tile": np.arange(tiles) % (tiles // patients)}
    return pd.DataFrame({**table, "shard": "0", "tile_px": 32, "x_px0": 0, "y_px0": 0})


def test_neighbours_are_those_of_scikit_learn_among_other_patients() -> None:
    sample, features = drawn_sample(), np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    for query in (0, 17, 59):
        others = np.flatnonzero(sample["patient"] != sample["patient"][query])
        model = NearestNeighbors(n_neighbors=7, metric="cosine").fit(features[others].astype(np.float64))
        distance, found = model.kneighbors(features[[query]])
        near = nearest(features, sample, query, 7)
        assert near["row"].tolist() == others[found[0]].tolist()
        assert near["similarity"].to_numpy() == pytest.approx(1 - distance[0], abs=1e-5)
    assert len(nearest(features, sample, 0, 1000)) == 50  # all there are
    assert len(nearest(np.zeros((60, 5), np.float16), sample, 0, 3)) == 3


def test_queries_are_one_an_organ_and_round_again() -> None:
    sample = drawn_sample()
    asked = queries(sample, 7, seed=0)
    assert len(set(asked)) == 7
    assert sample["organ"][asked[:3]].nunique() == sample["organ"][asked[3:6]].nunique() == 3
    assert asked == queries(sample, 7, seed=0) != queries(sample, 7, seed=1)
    assert len(queries(sample, 1000, seed=0)) == 60
    alone = sample.assign(organ=np.where(sample["patient"] == "patient_0", "rare", sample["organ"]))
    assert "rare" not in set(alone["organ"][queries(alone, 40, seed=0)])  # it has no neighbour of its organ
    with pytest.raises(UserError, match="found one patient in the sample, expected two or more"):
        queries(sample.assign(patient="one"), 3, seed=0)


def test_the_share_by_chance_is_that_of_random_features() -> None:
    sample = drawn_sample(300, patients=6)
    rng = np.random.default_rng(0)
    hits = [answers(rng.normal(size=(300, 9)), sample, [0, 150], 50).query("rank > 0")["same_organ"].mean() for _ in range(40)]
    assert np.mean(hits) == pytest.approx(by_chance(sample, [0, 150]), abs=0.02)
    assert by_chance(sample, [0]) == pytest.approx(50 / 250)


def test_a_page_is_drawn_from_features_and_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog_of(tmp_path, slide_table({"breast": [5, 3, 9], "lung": [7, 1, 4]}))
    quality_sample(tmp_path / "catalog.parquet", tmp_path / "tiles", tmp_path / "sample.parquet", settings(18, 6))
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["features"] = np.random.default_rng(0).normal(size=(18, 4)).astype(np.float16)
    outputs = [tmp_path / f"near.{kind}" for kind in ("pdf", "png", "csv")]
    arguments = (tmp_path / "sample.parquet", tmp_path / "features.h5", tmp_path / "tiles", *outputs, 2, 3, 0, "res50 (random weights)")
    pages: list[Figure] = []
    monkeypatch.setattr("microtome.figure_neighbours.save", lambda page, *paths: (pages.append(page), save(page, *paths)))
    figure_neighbours(*arguments)
    assert_saved(outputs[0], outputs[1])
    assert sum(text.startswith("res50 (random weights): ") for text, _ in texts(pages[0])) == 1
    table = pd.read_csv(outputs[2])
    assert table["rank"].tolist() == [0, 1, 2, 3] * 2
    pixels = np.asarray(Image.open(outputs[1]).convert("RGB"))
    first = np.asarray(Image.open(io.BytesIO(tile_jpeg(table["slide"][0], table["tile"][0], 32))))
    left_px, top_px, factor = GAP_PX + FRAME_PX, LINE_PX + GAP_PX + FRAME_PX, round((pixels.shape[1] - 100) / 4 / 32)
    assert (pixels[top_px : top_px + 32 * factor, left_px : left_px + 32 * factor] == first.repeat(factor, 0).repeat(factor, 1)).all()
    for _, rows in table.groupby("query"):
        assert rows["patient"].iloc[0] not in set(rows["patient"][1:])
        assert rows["same_organ"].tolist() == (rows["organ"] == rows["organ"].iloc[0]).tolist()
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["features"] = np.zeros((17, 4))
    with pytest.raises(UserError, match=r"expected features of 18 tiles, those of .*sample.parquet, found 17"):
        figure_neighbours(*arguments)


def test_frames_and_marks_say_which_are_of_another_organ() -> None:
    sample = drawn_sample()
    sample["organ"] = sample["organ"].replace({"organ 1": "an organ of a very long name"})
    features = np.random.default_rng(0).normal(size=(60, 5))
    table = answers(features, sample, queries(sample, 3, seed=0), 4)
    figure = draw(table, [np.zeros((32, 32, 3), np.uint8)] * len(table), "dino@25: 3 of 12 neighbours are of the query's organ")
    assert_readable(figure)
    frames = [patch.get_facecolor()[:3] for patch in figure.findobj(lambda artist: artist.get_zorder() == -6)]
    colours = [tuple(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)) for c in np.where(table["same_organ"], SAME, OTHER)[table["rank"] > 0]]
    assert frames == [pytest.approx(colour) for colour in colours]
    marks = [text for text, _ in texts(figure) if text.startswith(MARK)]
    assert len(marks) == (~table["same_organ"]).sum()
    assert any(text.endswith("…") for text, _ in texts(figure))
