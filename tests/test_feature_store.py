"""A slide's features: what was written is read; another count or order is refused when written, made again, and noticed when read."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from microtome.errors import UserError
from microtome.feature_store import COORDS_DIGEST, read_features, stored_dim, write_features

PLACES = np.arange(10).reshape(-1, 2)


def write(path: Path, features: np.ndarray[Any, Any]) -> Path:
    write_features(path, features, PLACES[: len(features)], {"patch_size": 256}, "digest")
    return path


def features(tiles: int, dim: int = 8, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(tiles, dim)).astype(np.float32)


def rewrite_coords(path: Path, coords: np.ndarray[Any, Any] | None) -> None:
    with h5py.File(path, "a") as file:
        del file["coords"]
        if coords is not None:
            file["coords"] = coords


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", features(5))
    np.testing.assert_array_equal(read_features(path, 5, 8), features(5))
    assert stored_dim(path, PLACES, "digest") == 8
    assert stored_dim(path, PLACES, "another") is None
    assert stored_dim(tmp_path / "b.h5", PLACES, "digest") is None


@pytest.mark.parametrize("coords", [PLACES[:4], np.append(PLACES, PLACES[:1], axis=0), PLACES[:, :1], PLACES.ravel()])
def test_another_count_is_not_written(tmp_path: Path, coords: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"a\.h5: expected features \[tiles, d\] and coords \[tiles, 2\], found \(5, 8\) and"):
        write_features(tmp_path / "a.h5", features(5), coords, {}, "digest")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (PLACES[::-1], "its coords, or their order, are not those that were written with the features"),
        (PLACES[:, ::-1], "its coords, or their order, are not those that were written with the features"),
        (PLACES[:4], "expected coords of 5 tiles x 2, found 4 x 2"),
        (None, "expected an HDF5 file with features and coords"),
    ],
)
def test_another_order_or_count_is_made_again_and_noticed(tmp_path: Path, coords: np.ndarray[Any, Any] | None, message: str) -> None:
    path = write(tmp_path / "a.h5", features(5))
    rewrite_coords(path, coords)
    assert stored_dim(path, PLACES, "digest") is None
    with pytest.raises(UserError, match=message):
        read_features(path, 5, 8)


def test_tiles_that_moved_or_are_more_or_fewer_are_made_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", features(5))
    for places in (PLACES[::-1], PLACES[:4], np.append(PLACES, PLACES[:1], axis=0)):
        assert stored_dim(path, places, "digest") is None
    with h5py.File(path, "a") as file:
        del file["features"]
        file["features"] = features(4)
    assert stored_dim(path, PLACES, "digest") is None
    with pytest.raises(UserError, match="expected features of 5 tiles x 8, found 4 x 8"):
        read_features(path, 5, 8)


def test_files_of_others_have_no_digest_and_can_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", features(5))
    with h5py.File(path, "a") as file:
        del file.attrs[COORDS_DIGEST]
    rewrite_coords(path, PLACES[None, ::-1].astype(np.int32))
    with h5py.File(path, "a") as file:
        del file["features"]
        file["features"] = features(5)[None]
    np.testing.assert_array_equal(read_features(path, 5, 8), features(5))
