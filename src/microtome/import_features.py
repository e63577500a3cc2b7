"""Features that others made, as a table that `gma` reads: HDF5 files of TRIDENT or CLAM, one a slide, named after it.

    python -m microtome.import_features --files their/features/*.h5 --table results/features/theirs/0.parquet

The files stay where they are. `features` may be [tiles, d] or, as some versions write it, [1, tiles, d].
"""

from pathlib import Path

import h5py
import pandas as pd

from microtome.atomic import atomic_path
from microtome.cohort import SLIDE_ID
from microtome.command_line import run
from microtome.errors import UserError


def import_features(files: list[Path], table: Path) -> None:
    """Write slide, status, reason, tiles, dim, path of the `files`.

    Raises:
        UserError: a file that is no HDF5 file with features and coords of as many tiles, is not named after a slide, or is there twice.
    """
    rows = pd.DataFrame([_row(path) for path in sorted(files)], columns=["slide", "status", "reason", "tiles", "dim", "path"])
    twice = rows["slide"][rows["slide"].duplicated()]
    if len(twice):
        raise UserError(f"Slide {twice.iloc[0]} has more than one file: {', '.join(rows['path'][rows['slide'] == twice.iloc[0]])}.")
    with atomic_path(table) as part:
        rows.sort_values("slide").to_parquet(part, index=False)


def _row(path: Path) -> tuple[str, str, str, int, int, str]:
    if not SLIDE_ID.fullmatch(path.stem):
        raise UserError(f"{path}: expected a file named after its slide (letters, digits, '_', '-', '.').")
    try:
        with h5py.File(path) as file:
            shape, coords = file["features"].shape, file["coords"].shape
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: expected an HDF5 file with features and coords, found: {error}.") from error
    if len(shape) not in (2, 3) or shape[:-2] not in ((), (1,)) or coords[-2:] != (shape[-2], 2):
        raise UserError(f"{path}: expected features [tiles, d] and coords [tiles, 2], found {list(shape)} and {list(coords)}.")
    return path.stem, "ok", "", int(shape[-2]), int(shape[-1]), str(path)


if __name__ == "__main__":
    run(import_features)
