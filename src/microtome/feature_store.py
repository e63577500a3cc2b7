"""Features on disk: one HDF5 file a slide, laid out as TRIDENT and CLAM read it, and read back with checks.

`features` is [tiles, d] and `coords` [tiles, 2] (int64, x and y of a tile's upper-left corner in level-0 pixels), in the order of the
slide's tile index. The attribute `made_from` of the file is a digest of all that the features follow from, `coords_sha256` one of the
coords in their order: coords that were changed since are noticed. Files of others have neither, and can be read.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from microtome.atomic import atomic_path
from microtome.errors import UserError

MADE_FROM = "made_from"
COORDS_DIGEST = "coords_sha256"
OF_FEATURES = ("name", "savetodir")


def write_features(
    path: Path, features: np.ndarray[Any, Any], coords_px0: np.ndarray[Any, Any], attributes: Mapping[str, Any], made_from: str
) -> None:
    """Write a slide's features whole or not at all; `attributes` are set on `coords`, where the common toolkits look for them.

    Those of `OF_FEATURES` stand on `features`, too, as TRIDENT writes them.

    Raises:
        ValueError: not one place [x, y] a tile.
    """
    if features.ndim != 2 or coords_px0.shape != (len(features), 2):
        raise ValueError(f"{path}: expected features [tiles, d] and coords [tiles, 2], found {features.shape} and {coords_px0.shape}.")
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        file["features"] = features
        file["coords"] = coords_px0.astype(np.int64)
        file["coords"].attrs.update(attributes)
        file["features"].attrs.update({name: attributes[name] for name in OF_FEATURES if name in attributes})
        file.attrs[MADE_FROM] = made_from
        file.attrs[COORDS_DIGEST] = _coords_digest(coords_px0)


def _coords_digest(coords_px0: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(coords_px0, np.int64).tobytes()).hexdigest()


def stored_dim(path: Path, coords_px0: np.ndarray[Any, Any], made_from: str) -> int | None:
    """The dimension of the features in `path` if they are there, whole, of the tiles at `coords_px0` in that order, and made from what
    `made_from` digests; else None."""
    try:
        with h5py.File(path) as file:
            same = file.attrs.get(MADE_FROM) == made_from and np.array_equal(file["coords"][:], coords_px0)
            return int(file["features"].shape[1]) if same and len(file["features"]) == len(coords_px0) else None
    except (OSError, KeyError):  # not there, or no whole HDF5 file: make it again
        return None


def read_features(path: Path, tiles: int, dim: int) -> np.ndarray[Any, Any]:
    """The features of one slide, [tiles, dim], checked against what its row of the feature table says.

    Raises:
        UserError: no readable file, another number of tiles, another dimension, coords that are not those that were written, values that
            are NaN or infinite.
    """
    remedy = f"Delete {path} and its folder's table, and run again to make it anew."
    try:
        with h5py.File(path) as file:
            features, coords, written = file["features"][:], file["coords"][:], file.attrs.get(COORDS_DIGEST)
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: expected an HDF5 file with features and coords, found: {error}. {remedy}") from error
    if features.ndim == 3:  # others' files may have a leading 1
        features, coords = features[0], coords[0]
    if features.shape != (tiles, dim):
        raise UserError(f"{path}: expected features of {tiles} tiles x {dim}, found {' x '.join(map(str, features.shape))}. {remedy}")
    if coords.shape != (tiles, 2):
        raise UserError(f"{path}: expected coords of {tiles} tiles x 2, found {' x '.join(map(str, coords.shape))}. {remedy}")
    if written not in (None, _coords_digest(coords)):
        raise UserError(f"{path}: its coords, or their order, are not those that were written with the features. {remedy}")
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features)).any(axis=1).sum())
        raise UserError(f"{path}: {bad} of {tiles} tiles have features that are NaN or infinite. {remedy} With float16, try float32.")
    return np.asarray(features)
