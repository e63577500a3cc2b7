from pathlib import Path

import pandas as pd
import pytest
import torch

from microtome.config import Splits
from microtome.errors import UserError
from microtome.export_opal import export_opal
from microtome.settings import SplitsSettings
from microtome.splits import splits
from tests.test_gma import places, write_inputs
from tests.test_gma_training import drawn_bags


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Twelve slides, one of which has no features, exported to OPAL's layout."""
    table, features = write_inputs(tmp_path, without=(0,))
    slides = pd.read_csv(table)["slide"]
    catalog = pd.DataFrame({"slide": slides, "path": "/slides/" + slides + ".svs", "tile_px": 256, "tile_px0": 512.0})
    catalog.to_parquet(tmp_path / "catalog.parquet")
    export_opal(table, features, tmp_path / "catalog.parquet", "tiny", tmp_path / "opal")
    return tmp_path


def test_opals_layout(exported: Path) -> None:
    slides, tiles = (pd.read_csv(exported / "opal" / name) for name in ("slide_data.csv", "tile_data.csv"))
    assert list(slides.columns) == ["slide", "target", "slide_path", "tensor_root", "tensor_name", "mccv1", "mccv2"]
    assert list(tiles.columns) == ["slide", "x", "y", "level", "mult"]
    assert slides["slide"].tolist() == [f"s{n:02d}" for n in range(1, 12)]
    assert slides["slide_path"].iloc[0] == "/slides/s01.svs"
    assert set(tiles["mult"]) == {2.0}
    bags = drawn_bags(12)
    for row in slides.itertuples():
        tensor = torch.load(Path(row.tensor_root) / "tiny" / row.tensor_name)
        assert torch.equal(tensor, bags.tiles(bags.slides.index(row.slide)))
        assert tiles.loc[tiles["slide"] == row.slide, ["x", "y"]].to_numpy().tolist() == places(len(tensor)).tolist()


def test_the_way_back(exported: Path) -> None:
    """Their slide table is a task table; the splits that come out are those that went in."""
    slide_data = pd.read_csv(exported / "opal" / "slide_data.csv")
    slide_data[["slide"]].assign(patient=slide_data["slide"]).to_parquet(exported / "cohort.parquet")
    drawn = SplitsSettings(seed=0, splits=Splits.model_validate({"repeats": 20, "train_fraction": 0.8, "group": "patient"}))
    splits(exported / "opal" / "slide_data.csv", exported / "cohort.parquet", exported / "back.csv", drawn)
    expected = pd.read_csv(exported / "splits.csv").iloc[1:].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(exported / "back.csv"), expected)


def test_no_features_at_all(exported: Path) -> None:
    empty = pd.read_parquet(exported / "0.parquet").assign(status="failed")
    empty.to_parquet(exported / "none.parquet")
    with pytest.raises(UserError, match=r"none of its slides has features in .*none\.parquet"):
        export_opal(exported / "splits.csv", [exported / "none.parquet"], exported / "catalog.parquet", "tiny", exported / "opal")
