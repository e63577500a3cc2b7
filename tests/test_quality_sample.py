"""The sample that judges encoders: balanced over organs, a few tiles a slide, the same for the same seed whatever comes later."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.encoder_config import QualitySample
from microtome.errors import UserError
from microtome.quality_sample import quality_sample, sampled_rows
from microtome.settings import QualitySampleSettings
from microtome.tile_index import read_rows
from tests.tile_folder import slide_table, write_catalog, write_tiles


def settings(tiles: int, tiles_per_slide: int, seed: int = 0) -> QualitySampleSettings:
    return QualitySampleSettings(seed=seed, quality=QualitySample(version=1, tiles=tiles, tiles_per_slide=tiles_per_slide))


def catalog_of(folder: Path, slides: pd.DataFrame) -> Path:
    write_tiles(folder / "tiles", slides[slides["status"] == "ok"])
    tables = [pd.read_parquet(path) for path in sorted((folder / "tiles").glob("*.parquet"))]
    return write_catalog(folder / "catalog.parquet", pd.concat([*tables, slides[slides["status"] != "ok"]]))


def drawn(folder: Path, *wanted: int, seed: int = 0) -> pd.DataFrame:
    quality_sample(folder / "catalog.parquet", folder / "tiles", folder / "sample.parquet", settings(*wanted, seed=seed))
    return pd.read_parquet(folder / "sample.parquet")


def test_organs_give_alike_and_slides_no_more_than_their_share(tmp_path: Path) -> None:
    slides = slide_table({"breast": [30] * 9, "lung": [8, 20, 9], "skin": [2, 2]})
    slides.loc[0, "status"] = "failed"
    catalog_of(tmp_path, slides)
    sample = drawn(tmp_path, 28, 5)
    assert sample["organ"].value_counts().to_dict() == {"breast": 12, "lung": 12, "skin": 4}  # skin has no more: the others share the rest
    of_slide = sample.groupby(["organ", "slide"]).size()
    assert of_slide["breast"].between(1, 2).all()
    assert len(of_slide["breast"]) == 8
    assert of_slide["lung"].tolist() == [4, 4, 4]
    assert sample.drop_duplicates("organ").set_index("organ")["organ_slides"].to_dict() == {"breast": 8, "lung": 3, "skin": 2}
    assert sample.sort_values(["shard", "slide", "tile"], ignore_index=True).equals(sample)
    assert not sample.isna().any().any()


def test_a_row_says_where_its_tile_is(tmp_path: Path) -> None:
    slides = slide_table({"breast": [7, 9], "lung": [8, 6]}, shards=2)
    catalog = pd.read_parquet(catalog_of(tmp_path, slides)).set_index("slide")
    sample = drawn(tmp_path, 12, 4)
    assert not sample.duplicated(["slide", "tile"]).any()
    for row in sample.itertuples():
        index = read_rows(tmp_path / "tiles" / f"{row.shard}.arrow").to_pandas()
        mine = index.iloc[int(catalog["first_row"][row.slide]) + row.tile]
        assert (mine["x_px0"], mine["y_px0"], mine["offset_b"], mine["size_b"]) == (row.x_px0, row.y_px0, row.offset_b, row.size_b)
        assert row.patient == f"p{row.slide}"


def test_it_follows_from_the_seed(tmp_path: Path) -> None:
    catalog_of(tmp_path, slide_table({"breast": [30] * 6, "lung": [30] * 6}))
    first, again, other = (drawn(tmp_path, 20, 2, seed=seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first[["slide", "tile"]].equals(other[["slide", "tile"]])
    assert sampled_rows("a", 50, 5, 0).tolist() != sampled_rows("b", 50, 5, 0).tolist()


def test_fewer_tiles_than_wanted_are_all_taken(tmp_path: Path) -> None:
    catalog_of(tmp_path, slide_table({"breast": [3, 1], "lung": [2]}))
    assert len(drawn(tmp_path, 1000, 10)) == 6
    assert len(drawn(tmp_path, 1000, 1)) == 3


def test_no_slide_has_tiles(tmp_path: Path) -> None:
    slides = slide_table({"breast": [3, 1]}).assign(first_row=0, status="failed")
    write_catalog(tmp_path / "catalog.parquet", slides)
    with pytest.raises(UserError, match="at least 2, found 0 in 0 slides with tiles"):
        drawn(tmp_path, 10, 5)
