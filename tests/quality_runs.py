"""Made-up label-free measures and features of a sample, in the files the workflow writes, for the tests of what shows them."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

NULLS = ["dino_vits16@0", "mae_vitl16@0", "tres50"]
LABELS = {name: f"{name} (random weights)" for name in NULLS}


def write_measures(folder: Path, encoders: list[str], nulls: list[str]) -> list[Path]:
    """quality/{encoder}/measures.csv under `folder`, all of them different."""
    random, paths = np.random.default_rng(0), []
    for encoder in encoders:
        row = {"encoder": encoder, "null": encoder in nulls, "tiles": 1200, "dim": 192, "rankme": 60 * random.random()}
        row |= {"odcorr": random.random(), "knn_accuracy": random.random(), "organs": 4, "chance": 0.25}
        paths.append(folder / "quality" / encoder / "measures.csv")
        paths[-1].parent.mkdir(parents=True)
        pd.DataFrame([row]).to_csv(paths[-1], index=False)
    return paths


def write_features(folder: Path, encoders: list[str], organs: int, tiles: int) -> tuple[Path, list[Path]]:
    """quality/sample.parquet and quality/{encoder}/features.h5 under `folder`: each organ around a centre of its own."""
    organ, paths = np.arange(tiles) % organs, []
    slides = {"slide": [f"slide{number // 5}" for number in range(tiles)], "tile": np.arange(tiles) % 5}
    rows = {**slides, "organ": [f"organ {number}" for number in organ], "organ_slides": 10 * (organ + 1)}
    sample = folder / "quality" / "sample.parquet"
    sample.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(sample)
    for number, encoder in enumerate(encoders):
        random = np.random.default_rng(number)
        features = 5 * random.normal(size=(organs, 12))[organ] + random.normal(size=(tiles, 12))
        paths.append(folder / "quality" / encoder / "features.h5")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(paths[-1], "w") as file:
            file["features"] = features.astype(np.float32)
    return sample, paths
