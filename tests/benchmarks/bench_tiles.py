"""Tiles a second of one core: from a drawn Philips-like and Aperio-like slide of 0.25 µm/px to 256-px JPEG tiles of 0.5 µm/px.

Ours is the whole work on a slide: mask, cutting, measuring, encoding, tar and index. Beside it the plain way (OpenSlide reads level 0,
Pillow resizes with LANCZOS and encodes) and `vips dzsave` at that resolution. A rate is tiles by second of CPU time, which other work
on the machine does not change much; `tiles_cores` is by wall time. [tiles_copied] is without `tiles.check_copies`: nothing is decoded.
"""

import gc
import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openslide
from PIL import Image

from microtome.drawn_slide import Drawing, draw_slide
from microtome.masks import geojson
from microtome.tiles import make_tiles
from tests.benchmarks.rows import row
from tests.drawn_slides import write_repeated_slide, write_slide
from tests.stage_settings import tiles_settings

SIDE_PX0 = 15_360
KINDS: dict[str, dict[str, Any]] = {
    "philips": {"kind": "philips", "tile_px": 512, "factors": (1, 2, 4, 8, 16, 32)},
    "aperio": {"kind": "aperio", "tile_px": 240, "factors": (1, 4, 16), "coding": "ycbcr"},
}
TILES = {"jpeg_quality": 80, "jpeg_subsampling": "420", "check_copies": False}
SETTINGS = tiles_settings(grid={"tile_px": 256, "mpp": 0.5, "layout": "aligned"}, tiles=TILES)
REPEATS = 5


def tissue(side_px: int) -> np.ndarray:
    """Nothing but drawn tissue: a piece of a demo slide, repeated."""
    drawing = Drawing(seed=(0, 1), colour=0, organ="breast", mpp=0.25, size=1.0, pieces=1, lesion=True, aligned=False, pen=None)
    drawn = draw_slide(drawing)
    middle = drawn[drawn.shape[0] // 2 - 512 : drawn.shape[0] // 2 + 512, drawn.shape[1] // 2 - 768 : drawn.shape[1] // 2 + 768]
    return np.tile(middle, (side_px // 1024 + 1, side_px // 1536 + 1, 1))[:side_px, :side_px]


def ours(path: Path, mpp: float, folder: Path, side_px0: int = SIDE_PX0) -> float:
    """Tiles by second of CPU time."""
    mask_file = folder / "mask.geojson"
    tiles_a_side = int(side_px0 // (256 * 0.5 / mpp))
    mask_file.write_text(geojson(np.ones((tiles_a_side * 4, tiles_a_side * 4), bool), (side_px0 / tiles_a_side / 4,) * 2))
    (folder / "slide.tar").unlink(missing_ok=True)  # of the repeat before: a rename would spend time on freeing it
    start = time.process_time()
    made = make_tiles("slide", path, mpp, 4, mask_file, True, folder, SETTINGS)
    assert made["reader"] in ("jpeg", "copy"), made
    return float(made["tiles"]) / (time.process_time() - start)


def plain(path: Path, side_px0: int = 512, tiles: int = 120) -> float:
    """OpenSlide at level 0, Pillow's LANCZOS and JPEG."""
    a_row = SIDE_PX0 // side_px0
    start = time.process_time()
    with openslide.OpenSlide(str(path)) as slide:
        for number in range(tiles):
            place = number % a_row * side_px0, number // a_row * side_px0
            region = slide.read_region(place, 0, (side_px0, side_px0)).convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)
            region.save(io.BytesIO(), "JPEG", quality=80)
    return tiles / (time.process_time() - start)


def vips(path: Path, page: int, shrink: int, folder: Path) -> float:
    """`vips dzsave` of the page, shrunk, in one thread."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    import pyvips

    start = time.process_time()
    image = pyvips.Image.tiffload(str(path), page=page, access="sequential")
    shrunk = image.shrink(shrink, shrink) if shrink > 1 else image
    shrunk.dzsave(str(folder / "vips"), tile_size=256, overlap=0, depth="one", suffix=".jpg[Q=80]", skip_blanks=-1)
    taken_s = time.process_time() - start
    return len(list((folder / "vips_files").rglob("*.jpg"))) / taken_s


def best(*ways: Callable[[], float]) -> list[float]:
    """The best rate of each way; they take turns. What else the machine does only ever takes away."""
    return [max(rates) for rates in zip(*([way() for way in ways] for _ in range(REPEATS)), strict=True)]


def wall_rate(processes: int, path: Path, folder: Path) -> float:
    """Tiles by second of wall time of some processes, each with the whole slide."""
    folders = [folder / f"process{n}" for n in range(processes)]
    for own in folders:
        own.mkdir(exist_ok=True)
    with ProcessPoolExecutor(processes, get_context("forkserver"), initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        list(pool.map(abs, range(processes)))  # started
        start = time.perf_counter()
        list(pool.map(ours, [path] * processes, [0.25] * processes, folders))
        return processes * (SIDE_PX0 // 512) ** 2 / (time.perf_counter() - start)


def main() -> list[dict[str, object]]:
    """Philips-like, Aperio-like, copied; each beside the alternatives in the same run."""
    cv2.setNumThreads(1)
    gc.freeze()  # as the job's workers do
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        drawn = tissue(SIDE_PX0)
        for name, how in KINDS.items():
            path = write_slide(folder / f"{name}.tiff", drawn, 0.25, quality=80, **how)
            page, shrink = (1, 1) if name == "philips" else (0, 2)
            ways = partial(ours, path, 0.25, folder), partial(plain, path), partial(vips, path, page, shrink, folder)
            fast, slow, deep_zoom = best(*ways)
            rows.append(row(f"tiles_{name}", round(fast), "tiles/s", round(slow), round(fast / slow, 2), 1))
            rows.append(row(f"tiles_{name}_vips", round(fast), "tiles/s", round(deep_zoom), round(fast / deep_zoom, 2), 1))
        one, two = best(*(partial(wall_rate, processes, folder / "philips.tiff", folder) for processes in (1, 2)))
        rows.append(row("tiles_cores", round(two), "tiles/s", round(one), round(two / one, 2), 2))
        path = write_repeated_slide(folder / "copied.tiff", drawn[:3072, :3072], times=10)
        copied, slow = best(partial(ours, path, 0.5, folder, 30_720), partial(plain, path, 256))
        rows.append(row("tiles_copied", round(copied), "tiles/s", round(slow), round(copied / slow, 2), 1))
    return rows


if __name__ == "__main__":
    for measured in main():
        print(measured)
