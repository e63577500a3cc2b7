from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from microtome.errors import UserError
from microtome.gma import gma
from microtome.import_features import import_features
from tests.test_gma import outputs, write_inputs
from tests.test_gma_training import drawn_bags, settings


def test_features_made_by_others(tmp_path: Path) -> None:
    """With a leading 1, as TRIDENT's older files: the runs are those of our own files."""
    table, features = write_inputs(tmp_path)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for slide, name in enumerate(pd.read_csv(table)["slide"]):
        tiles = drawn_bags(12).tiles(slide).numpy()
        with h5py.File(theirs / f"{name}.h5", "w") as file:
            file["features"], file["coords"] = tiles[None], np.zeros((1, len(tiles), 2), np.int64)
    import_features(sorted(theirs.glob("*.h5")), tmp_path / "theirs.parquet")
    found = []
    for tables in (features, [tmp_path / "theirs.parquet"]):
        out = outputs(tmp_path)
        gma(splits=table, features=tables, **out, settings=settings(epochs=2), workers=1)
        found.append(pd.read_csv(out["runs"]))
    pd.testing.assert_frame_equal(*found)


@pytest.mark.parametrize(
    ("name", "features", "coords", "message"),
    [
        ("a.h5", (4, 8), (3, 2), r"found \[4, 8\] and \[3, 2\]"),
        ("a.h5", (2, 4, 8), (4, 2), r"found \[2, 4, 8\]"),
        ("a b.h5", (4, 8), (4, 2), r"expected a file named after its slide"),
    ],
)
def test_bad_files_of_others(tmp_path: Path, name: str, features: tuple[int, ...], coords: tuple[int, ...], message: str) -> None:
    with h5py.File(tmp_path / name, "w") as file:
        file["features"], file["coords"] = np.zeros(features), np.zeros(coords)
    with pytest.raises(UserError, match=message):
        import_features([tmp_path / name], tmp_path / "table.parquet")


def test_files_that_cannot_be_read_or_are_there_twice(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(UserError, match="expected an HDF5 file with features and coords"):
        import_features([tmp_path / "a.h5"], tmp_path / "table.parquet")
    paths = [tmp_path / "x" / "a.h5", tmp_path / "y" / "a.h5"]
    for path in paths:
        path.parent.mkdir()
        with h5py.File(path, "w") as file:
            file["features"], file["coords"] = np.zeros((4, 8)), np.zeros((4, 2))
    with pytest.raises(UserError, match="Slide a has more than one file"):
        import_features(paths, tmp_path / "table.parquet")
