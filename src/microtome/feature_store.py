"""Features on disk: one HDF5 file a slide, laid out as TRIDENT and CLAM read it, and read back with checks.

`features` is [tiles, d] and `coords` [tiles, 2] (int64, x and y of a tile's upper-left corner in level-0 pixels), in the order of the
slide's tile index. The attribute `made_from` of the file is a digest of all that the features follow from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from microtome.atomic import atomic_path
from microtome.errors import UserError

MADE_FROM = "made_from"


def write_features(
    path: Path, features: np.ndarray[Any, Any], coords_px0: np.ndarray[Any, Any], attributes: Mapping[str, Any], made_from: str
) -> None:
    """Write a slide's features whole or not at all; `attributes` are set on `coords`, where the common toolkits look for them."""
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        file["features"] = features
        file["coords"] = coords_px0.astype(np.int64)
        file["coords"].attrs.update(attributes)
        file.attrs[MADE_FROM] = made_from


def stored_dim(path: Path, tiles: int, made_from: str) -> int | None:
    """The dimension of the features in `path` if they are there, whole, and made from what `made_from` digests; else None."""
    try:
        with h5py.File(path) as file:
            same = file.attrs.get(MADE_FROM) == made_from and file["features"].shape[0] == tiles
            return int(file["features"].shape[1]) if same else None
    except (OSError, KeyError):  # not there, or no whole HDF5 file: make it again
        return None


def read_features(path: Path, tiles: int, dim: int) -> np.ndarray[Any, Any]:
    """The features of one slide, [tiles, dim], checked against what its row of the feature table says.

    Raises:
        UserError: no readable file, another number of tiles, another dimension, values that are NaN or infinite.
    """
    remedy = f"Delete {path} and its folder's table, and run again to make it anew."
    try:
        with h5py.File(path) as file:
            features, coords = file["features"][:], file["coords"].shape
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: expected an HDF5 file with features and coords, found: {error}. {remedy}") from error
    if features.ndim == 3:  # others' files may have a leading 1
        features, coords = features[0], coords[1:]
    if features.shape != (tiles, dim):
        raise UserError(f"{path}: expected features of {tiles} tiles x {dim}, found {' x '.join(map(str, features.shape))}. {remedy}")
    if coords != (tiles, 2):
        raise UserError(f"{path}: expected coords of {tiles} tiles x 2, found {' x '.join(map(str, coords))}. {remedy}")
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features)).any(axis=1).sum())
        raise UserError(f"{path}: {bad} of {tiles} tiles have features that are NaN or infinite. {remedy} With float16, try float32.")
    return np.asarray(features)
