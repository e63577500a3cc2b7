from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from microtome.bags import read_bags
from microtome.errors import UserError
from tests.test_feature_store import features, write


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Feature rows of four slides: two ok, one failed, one empty."""
    rows = []
    for number, (tiles, status) in enumerate([(5, "ok"), (3, "ok"), (0, "failed"), (0, "empty")]):
        path = write(tmp_path / f"s{number}.h5", features(tiles, seed=number)) if tiles else ""
        rows.append(
            {"slide": f"s{number}", "status": status, "reason": "" if tiles else "no µm/px", "tiles": tiles, "dim": 8 * bool(tiles)}
        )
        rows[-1]["path"] = str(path)
    return pd.DataFrame(rows)


def bags(folder: Path, table: pd.DataFrame, slides: list[str]) -> Any:
    table.iloc[:2].to_parquet(folder / "0.parquet")
    table.iloc[2:].to_parquet(folder / "1.parquet")
    task = pd.DataFrame({"slide": slides, "target": [n % 2 for n in range(len(slides))]})
    return read_bags([folder / "0.parquet", folder / "1.parquet"], task, torch.device("cpu"))


def test_bags_are_in_the_order_of_the_task(tmp_path: Path, table: pd.DataFrame) -> None:
    found, excluded = bags(tmp_path, table, ["s1", "s3", "s0", "s2", "s9"])
    assert found.slides == ["s1", "s0"]
    assert found.targets.tolist() == [0, 0]
    assert found.first == [0, 3, 8]
    assert found.dim == 8
    assert torch.equal(found.tiles(0), torch.from_numpy(features(3, seed=1)))
    assert torch.equal(found.tiles(1), torch.from_numpy(features(5, seed=0)))
    assert excluded.to_dict("list") == {
        "slide": ["s3", "s2", "s9"],
        "reason": ["empty: no µm/px", "failed: no µm/px", "no features were made of it"],
    }


def test_float16_stays_float16_until_it_is_used(tmp_path: Path, table: pd.DataFrame) -> None:
    write(tmp_path / "s0.h5", features(5).astype(np.float16))
    found, _ = bags(tmp_path, table, ["s0"])
    assert found.features.dtype == torch.float16
    assert found.tiles(0).dtype == torch.float32


def test_bad_features(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"None of the 2 slides of the task has features; s2, say: failed: no µm/px"):
        bags(tmp_path, table, ["s2", "s3"])
    wrong = features(5)
    wrong[2, 3] = np.nan
    write(tmp_path / "s0.h5", wrong)
    with pytest.raises(UserError, match=r"s0\.h5: 1 of 5 tiles have features that are NaN or infinite\. Delete .* make it anew"):
        bags(tmp_path, table, ["s0"])
    write(tmp_path / "s0.h5", features(4))
    with pytest.raises(UserError, match=r"s0\.h5: expected features of 5 tiles x 8, found 4 x 8"):
        bags(tmp_path, table, ["s0"])
    write(tmp_path / "s0.h5", features(5, 16))
    with pytest.raises(UserError, match=r"expected features of 5 tiles x 8, found 5 x 16"):
        bags(tmp_path, table, ["s0"])
    with h5py.File(write(tmp_path / "s0.h5", features(5)), "a") as file:
        del file["coords"]
    with pytest.raises(UserError, match=r"expected an HDF5 file with features and coords"):
        bags(tmp_path, table, ["s0"])
    (tmp_path / "s0.h5").write_bytes(b"no HDF5")
    with pytest.raises(UserError, match=r"expected an HDF5 file with features and coords"):
        bags(tmp_path, table, ["s0"])
    (tmp_path / "s0.h5").unlink()
    with pytest.raises(UserError, match=r"expected an HDF5 file"):
        bags(tmp_path, table, ["s0"])


def test_features_of_two_encoders(tmp_path: Path, table: pd.DataFrame) -> None:
    table.loc[1, "dim"] = 16
    with pytest.raises(UserError, match=r"more than one dimension: 8 \(slide s0\), 16 \(slide s1\)"):
        bags(tmp_path, table, ["s0", "s1"])
