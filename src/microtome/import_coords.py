"""Coordinates that others made, as places where `features` reads the slides: HDF5 files of TRIDENT or CLAM, one a slide.

    python -m microtome.import_coords --files their/patches/*.h5 --slides-table config/slides.csv --folder config/coords

with `features: {source: slides, coords: config/coords}` in the configuration. A file is named after its slide, with or without `_patches`.
`coords` are upper-left corners in level-0 pixels. TRIDENT states a tile's side there (`patch_size_level0`), CLAM in pixels of a level
(`patch_size`, `patch_level`). Tiles that reach over the slide's edge are left out, and counted.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microtome.atomic import atomic_path
from microtome.cohort import read_slides
from microtome.command_line import run
from microtome.errors import UserError
from microtome.progress import progress
from microtome.slides import Slide, SlideError, open_slide
from microtome.tile_index import write_places

SHARD = "coords"
UNREAD = {"status": "failed", "tiles": 0, "dropped": 0, "first_row": 0}


def import_coords(files: list[Path], slides_table: Path, folder: Path) -> None:
    """Write `folder`/slides.parquet, a row a file as the catalog has it, and the tile index beside. A slide that cannot be read is failed.

    Raises:
        UserError: a file that is no HDF5 file with coords and the size of tiles, of a slide that the table does not have, or there twice;
            tiles of more than one size in pixels.
    """
    slides = read_slides(slides_table).set_index("slide")
    rows: list[dict[str, Any]] = []
    places: list[NDArray[np.int64]] = []
    for path in progress(sorted(files), len(files), "import coordinates", "slide"):
        row, coords_px0 = _slide(path, slides)
        rows.append({**row, "first_row": sum(len(before) for before in places)})
        places.append(coords_px0)
    catalog = pd.DataFrame(rows)
    _check(catalog, files)
    folder.mkdir(parents=True, exist_ok=True)
    write_places(folder / f"{SHARD}.arrow", places)
    with atomic_path(folder / "slides.parquet") as part:
        catalog.to_parquet(part, index=False)
    counts = catalog["status"].value_counts()
    print(
        f"{catalog['tiles'].sum()} tiles of {len(catalog)} slides ({', '.join(f'{n} {status}' for status, n in counts.items())}); ", end=""
    )
    print(f"{catalog['dropped'].sum()} over a slide's edge were left out. Failed slides and why: {folder / 'slides.parquet'}")


def _slide(path: Path, slides: pd.DataFrame) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """A file's row of the catalog, and the places of its tiles [tiles, 2]."""
    slide = path.stem.removesuffix("_patches")
    if slide not in slides.index:
        raise UserError(
            f"{path}: the slide table has no slide {slide}. Expected files named after their slides, as SLIDE.h5 or SLIDE_patches.h5."
        )
    coords_px0, attributes = read_coords(path)
    row = {"slide": slide, "path": slides["path"][slide], "shard": SHARD, "reason": "", **UNREAD, "tile_px": int(attributes["patch_size"])}
    try:
        with open_slide(Path(row["path"])) as opened:
            width_px0, height_px0 = opened.level_sizes_px[0]
            stated = slides["mpp"][slide]
            mpp = float(opened.properties.get("openslide.mpp-x", "nan")) if pd.isna(stated) else float(stated)
            tile_px0 = side_px0(attributes, opened)
    except SlideError as error:
        return row | {"reason": str(error)}, coords_px0[:0]
    row |= {"tile_px0": tile_px0, "width_px0": width_px0, "height_px0": height_px0, "mpp_px0": mpp}
    inside = ((coords_px0 >= 0) & (coords_px0 + round(tile_px0) <= (width_px0, height_px0))).all(1)
    kept = coords_px0[inside]
    row |= {"tiles": len(kept), "dropped": int((~inside).sum()), "status": "ok" if len(kept) else "empty"}
    return row | ({} if len(kept) else {"reason": f"{path} has no coordinates on the slide"}), kept


def read_coords(path: Path) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """The coordinates [tiles, 2] in a file, in its order, and what is said of them.

    Raises:
        UserError: it is no HDF5 file with `coords` of that shape and a patch size.
    """
    try:
        with h5py.File(path) as file:
            coords, attributes = file["coords"][:], dict(file["coords"].attrs)
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: expected an HDF5 file with coords, found: {error}.") from error
    if not coords.size:
        coords = coords.reshape(0, 2)  # a slide on which they found no tissue
    coords = coords[0] if coords.ndim == 3 else coords
    if coords.ndim != 2 or coords.shape[1] != 2:
        raise UserError(f"{path}: expected coords [tiles, 2], found {list(coords.shape)}.")
    if "patch_size" not in attributes or not {"patch_size_level0", "patch_level"} & set(attributes):
        expected = "patch_size and, as TRIDENT, patch_size_level0 or, as CLAM, patch_level"
        raise UserError(f"{path}: expected coords with the attributes {expected}; found {', '.join(attributes) or 'none'}.")
    if int(attributes.get("custom_downsample", 1)) != 1:
        raise UserError(
            f"{path}: found custom_downsample {attributes['custom_downsample']}, which tools read differently. Expected 1: make them anew."
        )
    return coords.astype(np.int64), attributes


def side_px0(attributes: dict[str, Any], slide: Slide) -> float:
    """The side of a tile in level-0 pixels. Raises SlideError where the slide has no such level."""
    if "patch_size_level0" in attributes:
        return float(attributes["patch_size_level0"])
    level = int(attributes["patch_level"])
    if level >= len(slide.downsamples):
        raise SlideError(f"its coordinates are for level {level}, it has {len(slide.downsamples)} levels")
    return float(attributes["patch_size"] * slide.downsamples[level])


def _check(catalog: pd.DataFrame, files: list[Path]) -> None:
    twice = catalog["slide"][catalog["slide"].duplicated()]
    if len(twice):
        theirs = [str(path) for path in sorted(files) if path.stem.removesuffix("_patches") == twice.iloc[0]]
        raise UserError(f"Slide {twice.iloc[0]} has more than one file: {', '.join(theirs)}.")
    examples = catalog.groupby("tile_px")["slide"].first()
    if len(examples) > 1:
        found = ", ".join(f"{tile_px} (slide {slide})" for tile_px, slide in examples.items())
        raise UserError(f"Found tiles of more than one patch_size: {found}. Expected one: import them into folders of their own.")


if __name__ == "__main__":
    run(import_coords)
