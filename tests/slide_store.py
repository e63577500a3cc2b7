"""Drawn slides of several kinds with their stored tiles, and features of them, for the tests of what reads slides or coordinates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from microtome.features import features
from microtome.settings import EncoderSettings
from tests.drawn_slides import tissue_like, write_slide
from tests.test_encoders import settings as encoder_settings
from tests.test_tiles import run

DRAWN: dict[str, dict[str, Any]] = {
    "scaled": {"mpp": 0.25, "factors": (1,)},  # its JPEG tiles, decoded at half size
    "copied": {"mpp": 0.5, "tile_px": 128, "kind": "aperio"},  # its JPEG tiles, as they are
    "cut": {"mpp": 0.3, "factors": (1, 2), "kind": "philips"},
    "rgb": {"mpp": 0.25, "coding": "rgb"},
}


def write_store(folder: Path, kinds: Sequence[str] = tuple(DRAWN)) -> Path:
    """Slides of these kinds and one that is gone, their stored tiles and catalog, and a task of them."""
    for seed, slide in enumerate(kinds):
        write_slide(folder / f"{slide}.tiff", tissue_like(1280, 1024, seed), **DRAWN[slide])
    slides = {slide: {"path": str(folder / f"{slide}.tiff")} for slide in [*kinds, "gone"]}
    write_slide(folder / "gone.tiff", tissue_like(768, 768), 0.25)
    cut = run(folder, slides, {"layout": "aligned"}, jpeg_quality=95, jpeg_subsampling="444").reset_index()
    sizes = pd.read_parquet(folder / "tissue" / "0.parquet")[["slide", "width_px0", "height_px0", "mpp"]].rename(columns={"mpp": "mpp_px0"})
    catalog = cut.merge(sizes, on="slide").assign(shard="0", reason="", path=[slides[slide]["path"] for slide in cut["slide"]])
    catalog.to_parquet(folder / "catalog.parquet")
    (folder / "gone.tiff").unlink()
    (folder / "task.csv").write_text("slide,target\n" + "".join(f"{slide},{n % 2}\n" for n, slide in enumerate(slides)))
    lines = [f"{slide},{values['path']},p,breast" for slide, values in slides.items()]
    (folder / "slides.csv").write_text("\n".join(["slide,path,patient,organ", *lines]) + "\n")
    return folder


def made(store: Path, out: Path, source: str, catalog: Path | None = None, tiles: Path | None = None) -> pd.DataFrame:
    """Features of the task's slides by a tiny ResNet: the table, a row a slide."""
    settings = encoder_settings(timm="test_resnet", pooling="model", input_px=128).model_copy(update={"source": source})
    features(
        catalog=catalog or store / "catalog.parquet",
        tiles=tiles or store / "tiles",
        slides_of=[store / "task.csv"],
        shard="0",
        shards=1,
        folder=out / "0",
        table=out / "0.parquet",
        settings=EncoderSettings.model_validate(settings.model_dump()),
        batch=16,
        workers=2,
    )
    return pd.read_parquet(out / "0.parquet").set_index("slide")


def read(path: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]:
    """A file's features, coordinates and what is said of them."""
    with h5py.File(path) as file:
        return file["features"][:], file["coords"][:], dict(file["coords"].attrs)
