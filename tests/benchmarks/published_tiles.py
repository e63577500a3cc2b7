"""A catalog of the published size, and the tile indexes of one fifth of its slides in the format of the rule `tiles`; no pixels."""

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from microtome.config import Schedule
from microtome.settings import ScheduleSettings
from microtome.tile_index import INDEX_SCHEMA
from microtome.tile_tar import BLOCK_B

SLIDES, ORGANS, SHARDS = 423_563, 70, 1024
MEAN_TILES, MAX_TILES = 7_673, 50_578
TILES, PSEUDO_EPOCHS, PARTS = 65_000_000, 50, 5
INDEX_ROW_B = 40


def settings(tenths: int = 10) -> ScheduleSettings:
    """config/paper.yaml's schedule, or so many tenths of its tiles."""
    values = {"version": 1, "pseudo_epochs": PSEUDO_EPOCHS, "tiles": TILES * tenths // 10, "slide_parts": PARTS, "organ_alpha": 0.5}
    return ScheduleSettings(seed=0, schedule=Schedule(**values, max_tiles_per_slide=None, block=1, exclude_tasks=()))


def catalog(tenths: int = 10) -> pd.DataFrame:
    """Log-normal tile counts of the published mean and maximum, organs by Zipf's law."""
    rng = np.random.default_rng(0)
    slides = SLIDES * tenths // 10
    raw = rng.lognormal(0, 1, slides)
    tiles = np.clip(raw * MEAN_TILES / raw.mean(), 1, MAX_TILES)
    tiles = np.clip(tiles * MEAN_TILES / tiles.mean(), 1, MAX_TILES).astype(np.int64)  # what was cut off goes to the others
    frequency = 1 / np.arange(1, ORGANS + 1)
    organ = rng.choice(ORGANS, slides, p=frequency / frequency.sum())
    names = [f"S{number:06d}" for number in range(slides)]
    table = pd.DataFrame(
        {"slide": names, "patient": names, "case": None, "tiles": tiles, "organ": [f"organ{number:02d}" for number in organ]}
    )
    table["shard"] = [f"{number:04d}" for number in rng.integers(0, SHARDS, slides)]
    return table.assign(pretrain=True, status="ok", tile_px=256).astype({"case": "str"})


def draw_indexes(folder: Path, slides: pd.DataFrame) -> int:
    """Write the indexes and tables of `slides` (slide, shard, tiles), sorted by shard and slide; returns the bytes."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    for shard, of_shard in slides.groupby("shard"):
        tiles = of_shard["tiles"].to_numpy()
        first_row = np.cumsum(tiles) - tiles
        size_b = rng.integers(18_000, 44_000, tiles.sum(), np.int32)
        end_b = np.cumsum(BLOCK_B + (size_b + BLOCK_B - 1) // BLOCK_B * BLOCK_B, dtype=np.int64)
        begin_b = np.append(0, end_b[:-1])
        columns = dict.fromkeys(INDEX_SCHEMA.names, rng.random(len(size_b), np.float32))
        columns |= {"slide_row": np.repeat(np.arange(len(tiles)), tiles), "size_b": size_b}
        columns["offset_b"] = begin_b - np.repeat(begin_b[first_row], tiles) + BLOCK_B
        arrays = [pa.array(columns[field.name].astype(field.type.to_pandas_dtype())) for field in INDEX_SCHEMA]
        with pa.OSFile(str(folder / f"{shard}.arrow"), "wb") as sink, pa.ipc.new_file(sink, INDEX_SCHEMA) as writer:
            writer.write_batch(pa.record_batch(arrays, schema=INDEX_SCHEMA))
        of_shard[["slide", "tiles"]].assign(first_row=first_row).to_parquet(folder / f"{shard}.parquet", index=False)
    return sum(path.stat().st_size for path in folder.iterdir())


def tenths_that_fit(folder: Path) -> int:
    """How many tenths of one fifth's indexes the disk takes, leaving half of what is free."""
    return max(1, min(10, int(shutil.disk_usage(folder).free / 2 / (SLIDES / PARTS * MEAN_TILES * INDEX_ROW_B / 10))))


def forget(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    os.sync()
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Usage(NamedTuple):
    """What a process took; its own memory is without mapped files."""

    wall_s: float
    cpu_s: float
    own_mb: float


def run_alone(module: str, *flags: str) -> Usage:
    """Run `python -m module` on one core."""
    start, before_s, own_mb = time.perf_counter(), _children_cpu_s(), 0.0
    with subprocess.Popen(["taskset", "-c", "0", sys.executable, "-m", module, *flags]) as process:
        while process.poll() is None:
            own_mb = max(own_mb, _own_memory_mb(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"{module} ended with status {process.returncode}")
    return Usage(time.perf_counter() - start, _children_cpu_s() - before_s, own_mb)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _own_memory_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
