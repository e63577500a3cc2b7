"""Which encoder and which slides are shown, and the attention of their tiles."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microtome.attended import SHOWN, Attended, best_encoder, chosen, drawn, with_tiles
from microtome.comparisons import aucs_on_the_same_slides, ranking
from microtome.errors import UserError
from tests.benchmark_runs import write_predictions
from tests.test_quality_sample import catalog_of
from tests.tile_folder import slide_table


def predictions(**slides: tuple[int, list[float]]) -> pd.DataFrame:
    """A row a run: slide=(target, probabilities of class 1)."""
    rows = [
        {"split": run, "replica": 1, "slide": slide, "target": target, "probability_0": 1 - p, "probability_1": p}
        for slide, (target, of_slide) in slides.items()
        for run, p in enumerate(of_slide, 1)
    ]
    return pd.DataFrame(rows)


def test_the_best_is_shown_among_last_checkpoints_and_baselines(tmp_path: Path) -> None:
    paths = write_predictions(tmp_path, ["texture"], ["dino@1", "dino@4", "res50"], splits=5)
    for path, right in zip(paths, (8, 5, 6), strict=True):
        table = pd.read_parquet(path)
        truth = table["target"] == 1
        table["probability_1"] = truth.where(table["slide"].str[1:].astype(int) < right, ~truth).astype(float)
        table.to_parquet(path)
    assert best_encoder(paths) == "res50"  # dino@1 is no last checkpoint
    lacking = pd.read_parquet(paths[1])
    lacking[lacking["slide"] < "s5"].to_parquet(paths[1])  # it is right on what it has, but so is the other there
    assert best_encoder(paths) == ranking(aucs_on_the_same_slides(paths), 100, 0)["encoder"][0] == "dino@4"
    assert best_encoder(paths[::-1]) == "res50", "of equals the first"


def test_of_each_class_those_predicted_best_and_worst_on_the_mean_of_their_runs() -> None:
    table = predictions(a=(0, [0.1, 0.3]), b=(0, [0.0, 0.9]), c=(0, [0.3]), d=(1, [0.9]), e=(1, [0.2, 0.4]), f=(1, [0.5]))
    shown = chosen(table, 1, ())
    assert shown[["slide", "why"]].to_numpy().tolist() == [["a", "best"], ["b", "worst"], ["d", "best"], ["e", "worst"]]
    assert shown["probability"].tolist() == pytest.approx([0.8, 0.55, 0.9, 0.3])
    assert chosen(table, 2, ())["slide"].tolist() == ["a", "c", "b", "d", "f", "e"]  # none twice
    assert chosen(table, 1, ("c", "a"))["why"].tolist() == ["best", "worst", "best", "worst", "named"]
    with pytest.raises(UserError, match=r"figures.attention_named: found nobody, expected slides of the task that a split validates"):
        chosen(table, 1, ("a", "nobody"))


def attended(folder: Path, weights: list[float]) -> Attended:
    catalog_of(folder, slide_table({"breast": [3, len(weights)]}, shards=1))
    row = next(pd.read_parquet(folder / "catalog.parquet").query("slide == 'slide001'").assign(why="best", runs=2).itertuples())
    tiles = np.arange(len(weights))[::-1]
    return with_tiles(row, pd.DataFrame({"tile": tiles, "attention": np.array(weights)[tiles]}), folder / "tiles")


def test_attention_is_in_multiples_of_an_equal_share_and_no_tile_is_both_most_and_least(tmp_path: Path) -> None:
    slide = attended(tmp_path, [0.05, 0.3, 0.1, 0.2, 0.25, 0.1])
    assert slide.times.tolist() == pytest.approx([0.3, 1.8, 0.6, 1.2, 1.5, 0.6])
    assert slide.some(most=True).tolist() == [1, 4, 3, 2]
    assert slide.some(most=False).tolist() == [0, 5]
    assert len(slide.some(most=True)) == SHOWN
    with pytest.raises(UserError, match=r"Slide slide001: expected attention on its 6 tiles, found 5\. Run `gma` again"):
        with_tiles(slide.about, pd.DataFrame({"tile": range(5), "attention": 0.2}), tmp_path / "tiles")


def test_what_is_drawn_has_a_row_a_tile(tmp_path: Path) -> None:
    slide = attended(tmp_path, [0.5, 0.3, 0.1, 0.04, 0.06])
    about = pd.DataFrame([{"slide": "slide001", "target": 1, "why": "best", "probability": 0.9, "runs": 2}])
    table = drawn([Attended(next(about.itertuples()), slide.tiles, slide.times)])
    assert table["shown"].tolist() == ["most", "most", "most", "least", "most"]
    assert table["x_px0"].tolist() == slide.tiles.coords_px0[:, 0].tolist()
    assert table["attention_times_tiles"].tolist() == pytest.approx([2.5, 1.5, 0.5, 0.2, 0.3])
