"""[loader]: tiles read and decoded a core, beside Pillow's open and decode of loose files; [loader_workers]: a million by two workers,
beside a DataLoader over loose files; [loader_memory]: how memory grew over these, beside that of a DataLoader over a list of as
many paths; [schedule_block_*]: what blocks of 8 tiles buy.

Tiles are drawn: 256 px, JPEG of quality 80, 4:2:0; a row says how many bytes they have on average.
"""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import psutil
import simplejpeg
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from microtome.loader import tile_batches
from microtome.schedule import Visit, shuffle, visited_tiles
from microtome.schedule_file import ROW, Schedule, write_schedule
from microtome.tile_files import TileFiles
from microtome.tile_tar import BLOCK_B, TileTar
from tests.benchmarks.published_tiles import forget
from tests.benchmarks.rows import row, seconds

SLIDES, SLIDE_TILES, TILE_PX, MICRO_BATCH = 400, 300, 256, 128
MILLION = 1_000_000
DISTINCT = 64
READ = 12_000  # tiles a measurement
BLOCK = 8


def main() -> list[dict[str, Any]]:
    """Five rows."""
    torch.set_num_threads(1)
    Path("benchmarks").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="benchmarks") as name:
        folder = Path(name)
        jpegs = [drawn_jpeg(number, TILE_PX) for number in range(DISTINCT)]
        tiles = write_tars(folder / "tars", jpegs, SLIDES, SLIDE_TILES)
        schedule = scheduled(folder, tiles, block=1)
        loose = LooseFiles(write_loose(folder / "loose", jpegs))
        size_b = round(sum(map(len, jpegs)) / DISTINCT)
        return [decode_row(schedule, loose, size_b), *worker_rows(folder, tiles, loose), *block_rows(folder, tiles)]


def drawn_jpeg(seed: int, tile_px: int) -> bytes:
    """Something with the spectrum of stained tissue: blobs of three sizes and grain."""
    rng = np.random.default_rng(seed)
    blobs = sum(cv2.GaussianBlur(rng.normal(0, 1, (tile_px, tile_px)), (0, 0), sigma) * sigma for sigma in (1.5, 4, 12))
    colour = np.array([200, 130, 180]) - 28 * blobs[..., None] * np.array([1, 1.2, 0.7]) + rng.normal(0, 9, (tile_px, tile_px, 3))
    return simplejpeg.encode_jpeg(np.clip(colour, 0, 255).astype(np.uint8), 80, colorsubsampling="420")


def write_tars(folder: Path, jpegs: list[bytes], slides: int, slide_tiles: int) -> npt.NDArray[Any]:
    """Tars of `jpegs` in turn, and their tiles: dtype ROW, a slide's together."""
    folder.mkdir()
    tiles = np.empty((slides, slide_tiles), ROW)
    for slide in range(slides):
        with TileTar(folder / f"{slide}.tar") as tar:
            for tile in range(slide_tiles):
                jpeg = jpegs[(slide + tile) % len(jpegs)]
                tiles[slide, tile] = (slide, tile, tar.add(f"{slide}_{tile}.jpg", jpeg) // BLOCK_B, len(jpeg))
    return tiles


def scheduled(folder: Path, tiles: npt.NDArray[Any], block: int) -> Path:
    """A schedule of a fifth of each slide's tiles."""
    slides, slide_tiles = tiles.shape
    visits = [Visit(str(slide), "", slide_tiles // 5, 0, slide_tiles, 0) for slide in range(slides)]
    rows = np.concatenate([tiles[slide, visited_tiles(visit, block, 0)] for slide, visit in enumerate(visits)])
    write_schedule(
        folder / f"{block}.arrow",
        shuffle(rows, block, np.random.default_rng(0)),
        tars(folder, slides),
        TILE_PX,
    )
    return folder / f"{block}.arrow"


def tars(folder: Path, slides: int) -> list[str]:
    return [str(folder / "tars" / f"{slide}.tar") for slide in range(slides)]


def write_loose(folder: Path, jpegs: list[bytes]) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number}.jpg" for number in range(READ)]
    for number, path in enumerate(paths):
        path.write_bytes(jpegs[number % len(jpegs)])
    return paths


def rate(read: Callable[[], int], clock: Callable[[], float]) -> float:
    """Tiles a second, the better of two (the first one warms the files)."""
    rates = []
    for _ in range(2):
        start = clock()
        rates.append(read() / (clock() - start))
    return max(rates)


def loaded(schedule: Path) -> int:
    batches = tile_batches(schedule, MICRO_BATCH, 0, 1, 0, MICRO_BATCH, 0)
    return sum(len(batch.images) for batch in itertools.islice(batches, READ // MICRO_BATCH))


class LooseFiles(Dataset[torch.Tensor]):
    """The obvious data set: a list of paths, Pillow."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        with Image.open(self.paths[number]) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))


class Listed(Dataset[int]):
    """A path a tile, as the obvious data set has them; nothing is read. A worker that looks at one writes to it: it counts references."""

    def __init__(self) -> None:
        self.paths = [f"/archive/tiles/slide{number % SLIDES:06d}/{number:09d}.jpg" for number in range(MILLION)]

    def __len__(self) -> int:
        return MILLION

    def __getitem__(self, number: int) -> int:
        return len(self.paths[number])


def plain_growth_mb() -> float:
    """Memory after a million less that after 1,000: after 100,000 each worker has copied all of the list."""
    memory_mb, first, last = {}, 1000 // MICRO_BATCH, MILLION // MICRO_BATCH - 1
    for number, _ in enumerate(DataLoader(Listed(), MICRO_BATCH, shuffle=True, num_workers=2)):
        if number in (first, last):
            memory_mb[number] = family_mb()
    return memory_mb[last] - memory_mb[first]


def decode_row(schedule: Path, loose: LooseFiles, size_b: int) -> dict[str, Any]:
    ours = rate(lambda: loaded(schedule), time.process_time)
    plain = rate(lambda: sum(1 for number in range(READ) if len(loose[number])), time.process_time)
    return row("loader", round(ours), "tiles/s of CPU time", round(plain), round(ours / plain, 2), 1, tile_b=size_b)


def worker_rows(folder: Path, tiles: npt.NDArray[Any], loose: LooseFiles) -> list[dict[str, Any]]:
    """Two workers, from more tars than stay open: their speed, and own memory of all processes in the end less that after 100,000."""
    rows = np.random.default_rng(0).permutation(np.resize(tiles, MILLION))
    write_schedule(folder / "million.arrow", rows, tars(folder, len(tiles)), TILE_PX)
    start, memory_mb = time.perf_counter(), {}
    for batch in tile_batches(folder / "million.arrow", MICRO_BATCH, 0, 1, 0, MICRO_BATCH, 2):
        if batch.step % 781 == 0:
            memory_mb[batch.step] = family_mb()
    ours = MILLION / (time.perf_counter() - start)
    plain = rate(lambda: sum(map(len, DataLoader(loose, MICRO_BATCH, num_workers=2))), time.perf_counter)
    grown_mb, plain_mb = memory_mb[max(memory_mb)] - memory_mb[781], plain_growth_mb()
    memory = (round(grown_mb, 1), "MB more after a million reads", round(plain_mb, 1), round(plain_mb / max(grown_mb, 0.1), 1))
    return [
        row("loader_workers", round(ours), "tiles/s", round(plain), round(ours / plain, 2), 2, workers=2, reads=MILLION),
        row("loader_memory", *memory, 2, workers=2, reads=MILLION),
    ]


def family_mb() -> float:
    """Memory of this process and its children that is no file's; what they share, since a fork, is counted once."""
    lines = [
        line
        for process in (psutil.Process(), *psutil.Process().children())
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    ]
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss_Anon:"))


def block_rows(folder: Path, tiles: npt.NDArray[Any]) -> list[dict[str, Any]]:
    """Reading alone, in the loader's way, without decoding."""
    found: dict[tuple[int, str], float] = {}
    for block in (1, BLOCK):
        schedule = Schedule(scheduled(folder, tiles, block))
        for state in ("cold", "warm"):
            if state == "cold":
                forget(folder / "tars")
            found[block, state] = READ / seconds(lambda: read_alone(schedule))  # noqa: B023
    rows = []
    for state in ("cold", "warm"):
        ours, plain = found[BLOCK, state], found[1, state]
        rows.append(row(f"schedule_block_{state}", round(ours), "tiles/s read", round(plain), round(ours / plain, 2), 1, block=BLOCK))
    return rows


def read_alone(schedule: Schedule) -> None:
    files = TileFiles()
    for first in range(0, READ, MICRO_BATCH):
        tiles = [schedule[position] for position in range(first, first + MICRO_BATCH)]
        for tile in tiles:
            files.expect(tile)
        for tile in tiles:
            files.read(tile)
    files.close()
