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


def write_predictions(
    folder: Path, tasks: list[str], encoders: list[str], splits: int = 5, replicas: int = 2, slides: int = 8
) -> list[Path]:
    """gma/{task}/{encoder}/predictions.parquet under `folder`, of tasks of two classes: all of them different, on the same slides."""
    paths = []
    for number, (task, encoder) in enumerate((task, encoder) for task in tasks for encoder in encoders):
        index = pd.MultiIndex.from_product([range(1, splits + 1), range(1, replicas + 1), [f"s{n}" for n in range(slides)]])
        table = index.to_frame(index=False, name=["split", "replica", "slide"])
        table["target"] = table["slide"].str[1:].astype(int) % 2
        table["probability_1"] = np.random.default_rng(number).random(len(table))
        paths.append(folder / "gma" / task / encoder / "predictions.parquet")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        table.assign(probability_0=1 - table["probability_1"], threshold=0.5).to_parquet(paths[-1])
    return paths


def random_aucs(tasks: list[str], encoders: list[str], splits: int = 20) -> pd.DataFrame:
    """What `comparisons.aucs_on_the_same_slides` finds, all of them different: task, encoder, split, auc."""
    keys = pd.MultiIndex.from_product([tasks, encoders, range(1, splits + 1)], names=["task", "encoder", "split"])
    return keys.to_frame(index=False).assign(auc=np.random.default_rng(0).random(len(keys)))


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
