"""[dino_end_to_end], [mae_end_to_end]: training the published models from the tile store, beside the plain recipe (Pillow, torchvision in
as many workers, the same model), with the rates of the parts (read and decode: of all workers; augment and step: of the device) and what
bounds it: the workers or the device. On a GPU in bf16 and compiled; `bench_pretrain` says what `matrix_share` is.
"""

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from microtome.algorithm import Tiles
from microtome.dino import Prepared as PreparedDino
from microtome.distributed import Processes
from microtome.loader import tile_batches
from microtome.mae import Prepared as PreparedMae
from microtome.schedule_file import Schedule
from microtome.tile_files import TileFiles, decode_into
from microtome.trainer import Trainer
from tests.benchmarks.bench_loader import drawn_jpeg, scheduled, write_tars
from tests.benchmarks.bench_pretrain import (
    DEVICE,
    PRECISION,
    STEP_TILES,
    build,
    cpu_s,
    device_s,
    matrix_notes,
    plain_dino,
    plain_mae,
    train,
)
from tests.benchmarks.rows import row

STEPS = 30 if DEVICE.type == "cuda" else 2
WORKERS = max(1, (os.cpu_count() or 1) - 1)
SHARED = {"workers": ("read", "decode"), "device": ("augment", "step")}  # who does two parts one after the other


def main() -> list[dict[str, Any]]:
    """Two rows."""
    torch.set_num_threads(1)
    Path("benchmarks").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="benchmarks") as name:
        jpegs = [drawn_jpeg(number, 256) for number in range(64)]
        return [end_to_end_row(algorithm, plain, Path(name), jpegs) for algorithm, plain in (("dino", plain_dino()), ("mae", plain_mae()))]


class PlainTiles(Dataset[Any]):
    """JPEG files in memory, decoded and transformed with Pillow."""

    def __init__(self, jpegs: list[bytes], plain: Callable[[Image.Image], Any], length: int) -> None:
        self.jpegs, self.plain, self.length = jpegs, plain, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Any:
        return self.plain(Image.open(io.BytesIO(self.jpegs[number % len(self.jpegs)])).convert("RGB"))


def end_to_end_row(algorithm: str, plain: Callable[[Image.Image], Any], folder: Path, jpegs: list[bytes]) -> dict[str, Any]:
    """Training from a schedule, and with the plain transforms in as many workers; and the rates of our parts, one after the other."""
    n = STEP_TILES
    trained = build(algorithm).to(DEVICE)
    trainer = Trainer(trained, Processes(0, 1, DEVICE), PRECISION, n, compiled=DEVICE.type == "cuda")
    (folder / algorithm).mkdir()
    schedule = scheduled(folder / algorithm, write_tars(folder / algorithm / "tars", jpegs, STEPS + 1, 5 * n), block=1)
    tiles = next(ours_of(schedule, 0))
    ours = trained_images_per_s(trainer, ours_of(schedule, WORKERS))
    rates = {**loader_rates(schedule), "augment": n / min(device_s(lambda: trained.prepare(tiles)) for _ in range(3))}
    prepared = trained.prepare(tiles)
    trained.prepare = lambda tiles: prepared if isinstance(tiles.images, torch.Tensor) else tiles.images  # type: ignore[method-assign]
    rates["step"] = n / min(device_s(lambda: train(trainer, tiles)) for _ in range(2))
    plain_rate = trained_images_per_s(trainer, plain_of(algorithm, plain, jpegs, trained))
    notes: dict[str, Any] = {f"{part}_images_per_s": round(rate, 2) for part, rate in rates.items()}
    both = {who: 1 / sum(1 / rates[part] for part in parts) for who, parts in SHARED.items()}
    notes |= {"bound_by": min(both, key=lambda who: both[who]), **matrix_notes(trained, prepared, n, ours)}
    return row(
        f"{algorithm}_end_to_end", round(ours, 2), "images/s", round(plain_rate, 2), round(ours / plain_rate, 2), WORKERS + 1, **notes
    )


def loader_rates(schedule: Path) -> dict[str, float]:
    """Images/s that all workers read, and that they decode, if they do nothing else."""
    scheduled_tiles, files = Schedule(schedule), TileFiles()
    tiles = [scheduled_tiles[position] for position in range(len(scheduled_tiles))]
    jpegs, image = [files.read(tile) for tile in tiles], np.empty((256, 256, 3), np.uint8)
    read_s = cpu_s(lambda: [files.read(tile) for tile in tiles])
    decode_s = cpu_s(lambda: [decode_into(image, jpeg, tile) for jpeg, tile in zip(jpegs, tiles, strict=True)])
    files.close()
    return {"read": WORKERS * len(tiles) / read_s, "decode": WORKERS * len(tiles) / decode_s}


def ours_of(schedule: Path, workers: int) -> Iterator[Tiles]:
    """The batches of a schedule on the device."""
    for batch in tile_batches(schedule, STEP_TILES, 0, 1, 0, STEP_TILES, workers):
        yield Tiles(batch.images.to(DEVICE, non_blocking=True), batch.positions.numpy(), 1)


def plain_of(algorithm: str, plain: Callable[[Image.Image], Any], jpegs: list[bytes], trained: Any) -> Iterator[Any]:
    """As many batches, transformed in workers; what stands for the tiles is prepared already."""
    tiles = PlainTiles(jpegs, plain, STEP_TILES * (STEPS + 1))
    for batch in DataLoader(tiles, STEP_TILES, num_workers=WORKERS, pin_memory=DEVICE.type == "cuda"):
        if algorithm == "dino":
            crops = [torch.cat(batch[:2]), torch.cat(batch[2:])]
            prepared: Any = PreparedDino([crop.to(DEVICE, non_blocking=True) for crop in crops], [None, None], STEP_TILES)
        else:
            order = torch.rand(STEP_TILES, trained.patches, device=DEVICE).argsort(dim=1)
            prepared = PreparedMae(batch.to(DEVICE, non_blocking=True), order)
        yield Tiles(prepared, np.arange(STEP_TILES), 1)


def trained_images_per_s(trainer: Trainer, batches: Iterator[Tiles]) -> float:
    """Train on all batches; the first one is not counted."""
    train(trainer, next(batches))
    steps: list[None] = []
    seconds = device_s(lambda: steps.extend(train(trainer, tiles) for tiles in batches), time.perf_counter)
    assert len(steps) == STEPS
    return STEPS * STEP_TILES / seconds


if __name__ == "__main__":
    for line in main():
        print(line)
