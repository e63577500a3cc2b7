"""A task's slides, splits and features in the layout of OPAL's benchmark code (Campanella et al. 2024).

Under the folder: `slide_data.csv` (slide, target, slide_path, tensor_root, tensor_name, mccv1 …), `tile_data.csv` (slide, x, y in level-0
pixels, level, mult: by how much level 0 is finer than the tile) and `<encoder>/<slide>.pth`, a float32 tensor [tiles, d] each, its rows
those of `tile_data.csv`. Their `slide_data.csv` can be given to this workflow as a task table.

    python -m microtome.export_opal --splits results/splits/x.csv --features results/features/uni/*.parquet \\
        --catalog results/catalog/slides.parquet --encoder uni --folder opal/x
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch

from microtome.atomic import atomic_path, write_text
from microtome.command_line import run
from microtome.errors import UserError
from microtome.feature_store import read_features
from microtome.progress import progress


def export_opal(splits: Path, features: list[Path], catalog: Path, encoder: str, folder: Path) -> None:
    """Write the slides of a task that have features of the encoder; the others are left out."""
    made = pd.concat([pd.read_parquet(table) for table in features], ignore_index=True)
    rows = pd.read_csv(splits, dtype={"slide": str}).merge(made[made["status"] == "ok"], on="slide")
    rows = rows.merge(pd.read_parquet(catalog, columns=["slide", "path", "tile_px", "tile_px0"]), on="slide", suffixes=("", "_slide"))
    if rows.empty:
        raise UserError(f"{splits}: none of its slides has features in {', '.join(map(str, features))}. Expected those of one encoder.")
    tiles = [_export_slide(row, folder / encoder) for row in progress(rows.itertuples(), len(rows), "export", "slide")]
    slides = rows.rename(columns={"path_slide": "slide_path"}).assign(tensor_root=str(folder.resolve()), tensor_name=rows["slide"] + ".pth")
    columns = ["slide", "target", "slide_path", "tensor_root", "tensor_name", *rows.filter(regex=r"^mccv\d+$").columns]
    write_text(folder / "tile_data.csv", pd.concat(tiles).to_csv(index=False))
    write_text(folder / "slide_data.csv", slides[columns].to_csv(index=False))


def _export_slide(row: Any, folder: Path) -> pd.DataFrame:
    values = read_features(Path(row.path), int(row.tiles), int(row.dim))
    with atomic_path(folder / f"{row.slide}.pth") as part:
        torch.save(torch.from_numpy(values.astype(np.float32)), part)
    with h5py.File(row.path) as file:
        x, y = file["coords"][:].T
    return pd.DataFrame({"slide": row.slide, "x": x, "y": y, "level": 0, "mult": row.tile_px0 / row.tile_px})


if __name__ == "__main__":
    run(export_opal)
