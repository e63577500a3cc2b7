from pathlib import Path
from typing import Any

import numpy as np

from microtome.feature_store import read_features, stored_dim, write_features


def write(path: Path, features: np.ndarray[Any, Any]) -> Path:
    write_features(path, features, np.arange(2 * len(features)).reshape(-1, 2), {"patch_size": 256}, "digest")
    return path


def features(tiles: int, dim: int = 8, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(tiles, dim)).astype(np.float32)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", features(5))
    np.testing.assert_array_equal(read_features(path, 5, 8), features(5))
    assert stored_dim(path, 5, "digest") == 8
    assert stored_dim(path, 5, "another") is None
    assert stored_dim(path, 6, "digest") is None
    assert stored_dim(tmp_path / "b.h5", 5, "digest") is None
