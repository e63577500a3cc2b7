"""Features straight from slides beside those of stored tiles, over drawn slides of several kinds."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from microtome.ledger import source_of
from microtome.slide_pixels import SlideFile, SlidePixels, tile_pixels
from microtome.slide_tiles import locate
from microtome.tile_batches import StoredTiles, batches
from tests.drawn_slides import tissue_like, write_slide
from tests.slide_store import DRAWN, made, read, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_store(tmp_path_factory.mktemp("store"))
    readers = pd.read_parquet(folder / "catalog.parquet").set_index("slide")["reader"]
    assert readers.to_dict() == {"copied": "copy", "cut": "jpeg", "gone": "jpeg", "rgb": "jpeg", "scaled": "jpeg"}
    return folder


def test_a_slide_replaced_after_its_tiles_gets_no_features_at_the_old_places(tmp_path: Path) -> None:
    folder = write_store(tmp_path, ["scaled", "cut"])
    out, sidecar = tmp_path / "slides", folder / "tiles" / "0" / "cut.json"
    assert made(folder, out, "slides").loc[["scaled", "cut"], "status"].eq("ok").all()
    write_slide(folder / "cut.tiff", tissue_like(1280, 1024, seed=9), **DRAWN["cut"])
    found = made(folder, out, "slides")
    assert found.loc["scaled", "status"] == "ok"
    assert (found.loc["cut", "status"], found.loc["cut", "dim"]) == ("failed", 0)
    size = (folder / "cut.tiff").stat().st_size
    assert re.match(rf"not the file that `tiles` saw: expected [\d,]+ bytes of .*, found {size:,} bytes of ", found.loc["cut", "reason"])
    assert found.loc["cut", "reason"].endswith(f"snakemake --forcerun {folder}/tissue/0.parquet {out}/0.parquet -- all")
    assert not (out / "0" / "cut.h5").exists()
    assert made(folder, tmp_path / "stored", "tiles").loc["cut", "status"] == "ok", "what was stored is not read from the slide"
    note = json.loads(sidecar.read_text())
    note["inputs"]["source"] = {**source_of(folder / "cut.tiff", checksum=True), "mtime_ns": 1}
    sidecar.write_text(json.dumps(note))
    assert made(folder, out, "slides").loc["cut", "status"] == "ok", "a copy of the same bytes"
    note["inputs"]["source"]["sha256"] = "0"
    sidecar.write_text(json.dumps(note))
    assert made(folder, out, "slides").loc["cut", "status"] == "failed"
    sidecar.unlink()
    assert made(folder, out, "slides").loc["cut", "status"] == "ok", "as with imported coordinates nothing is compared"


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Any:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_features_from_slides_are_those_of_stored_tiles(store: Path, tmp_path: Path) -> None:
    """The same places; the pixels differ by one JPEG coding of quality 95, and where tiles were copied not at all."""
    stored, direct = made(store, tmp_path / "tiles", "tiles"), made(store, tmp_path / "slides", "slides")
    assert direct.loc["gone", "status"] == "failed"
    assert "gone.tiff" in direct.loc["gone", "reason"]
    for slide in DRAWN:
        (ours, coords, attributes), (theirs, their_coords, theirs_said) = read(direct["path"][slide]), read(stored["path"][slide])
        assert len(ours) > 10
        np.testing.assert_array_equal(coords, their_coords)
        assert {**attributes, "savetodir": ""} == {**theirs_said, "savetodir": ""}
        assert cosine(ours, theirs).min() > 0.999
        assert (cosine(ours, theirs) > cosine(ours, np.roll(theirs, 1, axis=0))).all(), "tiles beside one another differ by more"
        if slide == "copied":
            np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_pixels_from_slides_are_those_that_were_encoded(store: Path) -> None:
    catalog = pd.read_parquet(store / "catalog.parquet")
    rows = [row for row in catalog.itertuples() if row.slide != "gone"]
    slides = [locate(row, store / "tiles") for row in rows]
    files = {row.slide: SlideFile(Path(row.path), row.tile_px0) for row in rows}
    readers = [StoredTiles, lambda: SlidePixels(files, True), lambda: SlidePixels(files, False)]
    stored, fast, plain = (np.concatenate([b.values for b in batches(slides, 7, 2, lambda x: x.astype(int), r)]) for r in readers)
    assert np.abs(fast - stored).mean() < 1.5
    assert np.abs(fast - plain).mean() < 4  # the DCT scale beside an average of pixels


def test_one_tile_is_the_stored_one_or_the_slides(store: Path) -> None:
    row = next(row for row in pd.read_parquet(store / "catalog.parquet").itertuples() if row.slide == "copied")
    tiles, file = locate(row, store / "tiles"), SlideFile(Path(row.path), row.tile_px0)
    unstored = replace(tiles, tar=store / "none.tar")
    stored, read = (tile_pixels(of, 5, file).astype(int) for of in (tiles, unstored))
    assert np.abs(stored - read).max() <= 3  # the source's own JPEG, decoded here and by OpenSlide
    assert np.abs(stored - tile_pixels(unstored, 6, file)).mean() > 3


def test_each_thread_reads_with_a_reader_of_its_own_that_is_closed(store: Path) -> None:
    catalog = pd.read_parquet(store / "catalog.parquet")
    slides = [locate(row, store / "tiles") for row in catalog.itertuples()]
    threads: dict[int, set[int]] = {}
    closed: list[int] = []

    class Watched(StoredTiles):
        def __init__(self) -> None:
            super().__init__()
            self.close = lambda: closed.append(id(self))

        def read_into(self, image: Any, tiles: Any, row: int) -> None:
            threads.setdefault(id(self), set()).add(threading.get_ident())
            super().read_into(image, tiles, row)

    for _ in batches(slides, 4, 2, lambda images: images, Watched):
        pass
    assert all(len(of_reader) == 1 for of_reader in threads.values())
    assert set(threads) <= set(closed)
