"""[schedule_quota], [schedule_65m]: the published schedule on one core, beside the peers' way: draw tile by tile, write a CSV of paths.

The tile indexes of one fifth of the slides are drawn first, on disk and in the production format (26 GB), or the largest tenth of them
that fits in half of the free space; the row says which. They are read cold. Memory is the process's own, mapped files aside.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from microtome.tile_tar import tile_name
from tests.benchmarks.published_tiles import (
    PARTS,
    PSEUDO_EPOCHS,
    Usage,
    catalog,
    draw_indexes,
    forget,
    run_alone,
    settings,
    tenths_that_fit,
)
from tests.benchmarks.rows import row, seconds

SAMPLED_SHARDS = 16  # of 1,024, from which the plain way's seconds are scaled up


def main() -> list[dict[str, Any]]:
    """Two rows."""
    Path("benchmarks").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="benchmarks") as name:
        folder = Path(name)
        tenths = tenths_that_fit(folder)
        return [quota_row(folder, tenths), schedule_row(folder, tenths)]


def quota_row(folder: Path, tenths: int) -> dict[str, Any]:
    slides = catalog(tenths)
    slides.to_parquet(folder / "catalog.parquet", index=False)
    flags = ["--catalog", str(folder / "catalog.parquet"), "--balance", str(folder / "balance.csv"), "--task-tables"]
    took = run_alone("microtome.schedule_quota", *flags, "--quota", quota_of(folder), "--settings", settings(tenths).json_text())
    plain_s = plain_quota_s(slides, settings(tenths).schedule.tiles)
    notes = {"slides": len(slides), "pseudo_epochs": PSEUDO_EPOCHS, "tenths": tenths}
    return timed("schedule_quota", took, plain_s, notes)


def schedule_row(folder: Path, tenths: int) -> dict[str, Any]:
    quota = pd.read_parquet(quota_of(folder), filters=[("pseudo_epoch", "==", 1)])
    slides = quota[["slide", "shard"]].assign(tiles=quota["slide_tiles"])
    index_b = draw_indexes(folder / "tiles", slides)
    flags = [
        "--quota",
        quota_of(folder),
        "--tiles",
        str(folder / "tiles"),
        "--pseudo-epoch",
        "1",
        "--settings",
        settings(tenths).json_text(),
    ]
    forget(folder / "tiles")
    took = run_alone("microtome.schedule", *flags, "--schedule", str(folder / "1.arrow"))
    forget(folder / "tiles")
    plain_s = seconds(lambda: plain_schedule(folder, quota)) * quota["shard"].nunique() / SAMPLED_SHARDS
    notes = {"index_rows": int(slides["tiles"].sum()), "index_b": index_b, "tenths": tenths, "file_b": (folder / "1.arrow").stat().st_size}
    notes |= {"rows": int(quota["tiles"].sum()), "plain": f"scaled from {SAMPLED_SHARDS} shards; it would need all paths in memory"}
    return timed("schedule_65m", took, plain_s, notes)


def timed(name: str, took: Usage, plain_s: float, notes: dict[str, Any]) -> dict[str, Any]:
    notes = {"cpu_s": round(took.cpu_s, 1), "peak_memory_mb": took.own_mb, **notes}  # on a busy machine the wall time is not ours alone
    return row(name, round(took.wall_s, 1), "s", round(plain_s, 1), round(plain_s / took.wall_s, 1), 1, **notes)


def quota_of(folder: Path) -> str:
    return str(folder / "quota.parquet")


def plain_quota_s(slides: pd.DataFrame, tiles: int) -> float:
    """Draw a slide for each tile with the organ's probability, and count: one fifth of the slides, a tenth of the tiles, scaled up."""
    part = slides.iloc[::PARTS]
    of_organ = part.groupby("organ")["tiles"].sum() ** 0.5
    weight = part["organ"].map(of_organ / of_organ.sum() / part["organ"].value_counts()).to_numpy()
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    np.bincount(rng.choice(len(part), tiles // 10, p=weight / weight.sum()), minlength=len(part))
    return (time.perf_counter() - start) * 10 * PSEUDO_EPOCHS


def plain_schedule(folder: Path, quota: pd.DataFrame) -> None:
    """The obvious way with pandas: read the indexes, sample each slide, join, shuffle, write the paths."""
    sampled = []
    for shard, slides in list(quota.groupby("shard"))[:SAMPLED_SHARDS]:
        index = pd.read_feather(folder / "tiles" / f"{shard}.arrow")
        for (_, tiles), slide in zip(index.groupby("slide_row"), slides.itertuples(), strict=True):
            sampled.append(tiles.sample(slide.tiles, random_state=0).assign(slide=slide.slide))
    rows = pd.concat(sampled).sample(frac=1, random_state=0)
    names = [tile_name(*place) for place in zip(rows["slide"], rows["x_px0"], rows["y_px0"], strict=True)]
    pd.DataFrame({"imgpath": names}).to_csv(folder / "plain.csv", index=False)
