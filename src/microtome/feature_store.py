"""Features on disk: one HDF5 file a slide, laid out as TRIDENT and CLAM read it, and read back with checks.

`features` is [tiles, d] and `coords` [tiles, 2] (int64, x and y of a tile's upper-left corner in level-0 pixels), in the order of the
slide's tile index. The attribute `made_from` of the file is a digest of all that the features follow from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from microtome.atomic import atomic_path
from microtome.errors import UserError
from microtome.progress import progress

MADE_FROM = "made_from"


@dataclass(frozen=True)
class Bags:
    """The slides of a task as bags of tile features, all in one array."""

    slides: list[str]
    targets: Tensor  # [slides] int64
    features: Tensor  # [all tiles, d], as stored: float32 or float16
    first: list[int]  # [slides + 1]: slide s has the tiles first[s] to first[s + 1]

    @property
    def dim(self) -> int:
        """The dimension d of a tile's features."""
        return int(self.features.shape[1])

    @property
    def classes(self) -> int:
        """How many classes the task has; every split has slides of each."""
        return int(self.targets.max()) + 1

    def tiles(self, slide: int) -> Tensor:
        """[t, d] float32: the features of slide number `slide`."""
        return self.features[self.first[slide] : self.first[slide + 1]].float()


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


def read_bags(tables: Sequence[Path], task: pd.DataFrame) -> tuple[Bags, pd.DataFrame]:
    """Read the features of a task's slides, once.

    Args:
        tables: the feature tables of one encoder (slide, status, reason, tiles, dim, path).
        task: slide, target.

    Returns:
        bags: the slides that have features, in the order of `task`. excluded: slide, reason of the others.

    Raises:
        UserError: no slide has features; features of more than one dimension; a file that is not as its row says.
    """
    made = pd.concat([pd.read_parquet(table) for table in tables], ignore_index=True)
    rows = task[["slide", "target"]].merge(made, on="slide", how="left")
    usable = rows["status"].eq("ok") & rows["tiles"].gt(0)
    reason = (rows["status"] + ": " + rows["reason"].fillna("")).fillna("no features were made of it").str.removesuffix(": ")
    excluded = rows.assign(reason=reason).loc[~usable, ["slide", "reason"]]
    rows = rows[usable].astype({"tiles": int, "dim": int})
    if rows.empty:
        slide, why = excluded.iloc[0]
        raise UserError(f"None of the {len(task)} slides of the task has features; {slide}, say: {why}. Expected some: see {tables[0]}.")
    _check_one_dimension(rows)
    first = [0, *(int(last) for last in rows["tiles"].cumsum())]
    features = _read_all(rows, first)
    return Bags(list(rows["slide"]), torch.tensor(rows["target"].tolist()), torch.from_numpy(features), first), excluded


def _read_all(rows: pd.DataFrame, first: list[int]) -> np.ndarray[Any, Any]:
    paths, dim = [Path(path) for path in rows["path"]], int(rows["dim"].iloc[0])
    features = np.empty((0, dim))
    for slide, path in enumerate(progress(paths, len(paths), "read features", "slide")):
        block = read_features(path, first[slide + 1] - first[slide], dim)
        if slide == 0:
            features = np.empty((first[-1], dim), block.dtype)
        features[first[slide] : first[slide + 1]] = block
    return features


def _check_one_dimension(rows: pd.DataFrame) -> None:
    examples = rows.groupby("dim")["slide"].first()
    if len(examples) > 1:
        found = ", ".join(f"{dim} (slide {slide})" for dim, slide in examples.items())
        raise UserError(f"Features of more than one dimension: {found}. Expected those of one encoder: delete its features and run again.")
