"""Seconds to find the tissue of a slide, its thumbnail read from the pyramid, beside reading the thumbnail from level 0."""

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from microtome.grid import tile_grid
from microtome.slides import open_slide
from microtome.thumbnails import read_thumbnail
from microtome.tissue import find_tissue
from tests.benchmarks.rows import row
from tests.drawn_slides import tissue_like, write_slide
from tests.stage_settings import tissue_settings

SIDE_PX0 = 20_480
REPEATS = 3


def main() -> list[dict[str, object]]:
    """[tissue]: the whole of `find_tissue`; `thumbnail_s` is the part that reads pixels."""
    cv2.setNumThreads(1)
    settings = tissue_settings(grid={"tile_px": 256, "mpp": 0.5})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        drawn = cv2.resize(tissue_like(SIDE_PX0 // 8, SIDE_PX0 // 8, blobs=6), (SIDE_PX0, SIDE_PX0), interpolation=cv2.INTER_NEAREST)
        path = write_slide(folder / "slide.tiff", np.asarray(drawn), 0.25, kind="aperio", tile_px=240, factors=(1, 4, 16), quality=80)
        whole_s = min(_seconds(path, folder, settings) for _ in range(REPEATS))
        with open_slide(path) as slide:
            places = tile_grid(SIDE_PX0, SIDE_PX0, 0.25, settings.grid)
            side_px = places.columns * settings.tissue.subpixels
            start = time.process_time()
            read_thumbnail(slide, (SIDE_PX0, SIDE_PX0), side_px * (1024 // side_px), side_px * (1024 // side_px))
            thumbnail_s = time.process_time() - start
            slide.downsamples = slide.downsamples[:1]  # the plain way: level 0
            start = time.process_time()
            read_thumbnail(slide, (SIDE_PX0, SIDE_PX0), side_px, side_px)
            plain_s = time.process_time() - start
    return [row("tissue", round(whole_s, 3), "s", round(plain_s, 3), round(plain_s / whole_s, 2), 1, thumbnail_s=round(thumbnail_s, 3))]


def _seconds(path: Path, folder: Path, settings: object) -> float:
    start = time.process_time()
    assert find_tissue("slide", path, None, None, folder, settings)["tissue_um2"] > 0
    return time.process_time() - start


if __name__ == "__main__":
    for measured in main():
        print(measured)
