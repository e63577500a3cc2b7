"""Made-up results of the benchmark, in the files the workflow writes, for the tests of figures and tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from microtome.config import Figures
from microtome.settings import FiguresSettings


def write_runs(folder: Path, tasks: list[str], encoders: list[str], splits: int = 5, replicas: int = 2, epochs: int = 4) -> list[Path]:
    """gma/{task}/{encoder}/runs.csv under `folder`, all of them different."""
    paths = []
    for number, (task, encoder) in enumerate((task, encoder) for task in tasks for encoder in encoders):
        random = np.random.default_rng(number)
        index = pd.MultiIndex.from_product(
            [range(1, splits + 1), range(1, replicas + 1), range(epochs + 1)], names=["split", "replica", "epoch"]
        )
        runs = pd.DataFrame(
            {"loss": random.random(len(index)), "val_loss": random.random(len(index)), "auc": random.random(len(index))}, index
        )
        runs.loc[runs.index.get_level_values("epoch") == 0, "loss"] = np.nan
        paths.append(folder / "gma" / task / encoder / "runs.csv")
        paths[-1].parent.mkdir(parents=True)
        runs.to_csv(paths[-1])
    return paths


def figures_settings(labels: dict[str, str], single_runs: bool = False, slide_parts: int = 5) -> FiguresSettings:
    """Settings of a figure with few resamples."""
    return FiguresSettings(
        seed=3,
        figures=Figures(
            bootstrap=200,
            single_runs=single_runs,
            gallery_tiles=2,
            neighbour_queries=2,
            neighbours=5,
            attention_slides=1,
            attention_named={},
        ),
        slide_parts=slide_parts,
        labels=labels,
    )
