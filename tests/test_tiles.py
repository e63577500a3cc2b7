"""The rule `tiles`: from masks to tars and an index, over drawn slides."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import simplejpeg
from numpy.typing import NDArray

from microtome.errors import UserError
from microtome.settings import TilesSettings
from microtome.tile_index import INDEX_SCHEMA, READ_AS, read_as, read_rows
from microtome.tiles import SCHEMA, tiles
from microtome.tissue import tissue
from tests.drawn_slides import tissue_like, write_slide, write_sparse_slide
from tests.stage_settings import tiles_settings, tissue_settings
from tests.test_tissue import write_cohort

GRID = {"tile_px": 128, "mpp": 0.5, "layout": "published"}


def run(
    folder: Path, slides: dict[str, dict[str, Any]], grid: dict[str, Any] | None = None, max_failed: float = 1.0, **tiles_changes: Any
) -> pd.DataFrame:
    """Both rules; the tiles' table, indexed by slide."""
    sections = {
        "grid": {**GRID, **(grid or {})},
        "tissue": {"min_component_tiles": 2},
        "tiles": tiles_changes,
        "features": {"source": "slides"},
    }
    cohort = write_cohort(folder / "slides.parquet", slides)
    tissue(cohort, "0", folder / "tissue" / "0", folder / "tissue" / "0.parquet", 1.0, tissue_settings(**sections), 1)
    return make_tiles(folder, tiles_settings(**sections), max_failed)


def make_tiles(folder: Path, settings: TilesSettings, max_failed: float = 1.0) -> pd.DataFrame:
    found, made = folder / "tissue", folder / "tiles"
    cohort = folder / "slides.parquet"
    tiles(cohort, "0", found / "0.parquet", found / "0", made / "0", made / "0.arrow", made / "0.parquet", max_failed, settings, 1)
    return pd.read_parquet(made / "0.parquet").set_index("slide")


def index_of(folder: Path) -> pd.DataFrame:
    return read_rows(folder / "tiles" / "0.arrow").to_pandas()


def pixels_of(folder: Path, slide: str, row: Any) -> NDArray[np.uint8]:
    data = (folder / "tiles" / "0" / f"{slide}.tar").read_bytes()[row.offset_b : row.offset_b + row.size_b]
    return np.asarray(simplejpeg.decode_jpeg(data))


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_tiles_show_what_was_drawn_at_their_place(tmp_path: Path) -> None:
    drawn = {name: tissue_like(1500, 1100, seed) for seed, name in enumerate(("fine", "level"))}
    paths = {
        "fine": write_slide(tmp_path / "fine.tiff", drawn["fine"], 0.25, factors=(1,), subsampling="444", quality=95),
        "level": write_slide(tmp_path / "level.tiff", drawn["level"], 0.25, factors=(1, 2, 4), kind="generic", quality=95),
    }
    found = run(tmp_path, {name: {"path": str(path)} for name, path in paths.items()}, jpeg_quality=95, jpeg_subsampling="444")
    index = index_of(tmp_path)
    assert found["reader"].tolist() == ["jpeg", "jpeg"]
    assert found["level_downsample"].tolist() == [1, 2]
    assert found["mpp"].tolist() == pytest.approx([0.5, 0.5])
    assert found["tile_px0"].tolist() == [256, 256]
    for number, slide in enumerate(found.itertuples()):
        rows = index[index["slide_row"] == number]
        assert len(rows) == slide.tiles > 5
        assert rows.index[0] == slide.first_row
        for row in rows.itertuples():
            place = drawn[slide.Index][row.y_px0 : row.y_px0 + 256, row.x_px0 : row.x_px0 + 256]
            assert place.shape == (256, 256, 3)
            expected = place.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
            assert np.abs(pixels_of(tmp_path, slide.Index, row) - expected).mean() < 3


def test_the_index_and_table_have_their_columns(tmp_path: Path) -> None:
    run(tmp_path, {"a": {"path": str(write_slide(tmp_path / "a.tiff", tissue_like(900, 700)))}})
    rows = read_rows(tmp_path / "tiles" / "0.arrow")
    assert rows.schema.equals(INDEX_SCHEMA)
    assert pa.ipc.open_file(str(tmp_path / "tiles" / "0.arrow")).num_record_batches == 1
    assert pd.read_parquet(tmp_path / "tiles" / "0.parquet").columns.tolist() == SCHEMA.names
    assert (np.array(rows["offset_b"]) % 512 == 0).all()
    assert min(rows["sharpness"].to_pylist()) > 0
    assert max(rows["tissue_fraction"].to_pylist()) <= 1


def test_tar_names_say_slide_and_place_and_equal_the_index(tmp_path: Path) -> None:
    run(tmp_path, {"a.1": {"path": str(write_slide(tmp_path / "a.tiff", tissue_like(900, 700)))}})
    listed = subprocess.run(
        ["tar", "tf", "a.1.tar"], cwd=tmp_path / "tiles" / "0", check=True, capture_output=True, text=True
    ).stdout.split()
    assert listed == [f"a.1_x{row.x_px0}_y{row.y_px0}.jpg" for row in index_of(tmp_path).itertuples()]


def test_requested_and_effective_resolution_and_shift_are_stated(tmp_path: Path) -> None:
    path = str(write_slide(tmp_path / "a.tiff", tissue_like(1500, 1100), factors=(1,)))
    found = run(tmp_path, {"a": {"path": path, "mpp": 0.2025}}).loc["a"]  # a tile is 316.05 px of level 0
    assert found["mpp_requested"] == 0.5
    assert found["mpp"] == pytest.approx(316 * 0.2025 / 128)
    assert found["tile_px0"] == pytest.approx(316.049, abs=1e-3)
    assert 0 < found["shift_px0"] <= 2  # decoded at 1/2
    assert (found["reader"], found["level_downsample"]) == ("jpeg", 1)
    assert read_as(tmp_path / "tiles" / "0.arrow") == [{"slide_row": 0, "slide": "a", **found[READ_AS[1:]].to_dict()}]
    assert {pixels_of(tmp_path, "a", row).shape for row in index_of(tmp_path).itertuples()} == {(128, 128, 3)}


def test_both_paths_give_the_same_tiles(tmp_path: Path) -> None:
    slides = {"a": {"path": str(write_slide(tmp_path / "a.tiff", tissue_like(1500, 1100), 0.25, factors=(1,)))}}
    fast, slow = tmp_path / "fast", tmp_path / "slow"
    for folder, fast_path in ((fast, True), (slow, False)):
        folder.mkdir()
        run(folder, slides, grid={"layout": "aligned"}, fast_path=fast_path, jpeg_quality=98, jpeg_subsampling="444")
    table = pd.read_parquet(slow / "tiles" / "0.parquet").iloc[0]
    assert (table["reader"], table["reader_note"]) == ("openslide", "tiles.fast_path is off")
    places = ["x_px0", "y_px0", "tissue_fraction"]
    assert index_of(fast)[places].equals(index_of(slow)[places])
    for ours, theirs in zip(index_of(fast).itertuples(), index_of(slow).itertuples(), strict=True):
        difference = pixels_of(fast, "a", ours).astype(int) - pixels_of(slow, "a", theirs)
        assert np.abs(difference).mean() < 1
        assert ours.sharpness == pytest.approx(theirs.sharpness, rel=0.2)


def test_blurred_blank_and_sparsely_covered_tiles_are_left_out_and_counted(tmp_path: Path) -> None:
    drawn = tissue_like(1500, 1100)
    drawn[:, 900:] = np.rint(drawn[:, 900:].mean(axis=1, keepdims=True)).astype(np.uint8)  # stripes without detail along x
    slides = {"a": {"path": str(write_slide(tmp_path / "a.tiff", drawn))}}
    whole = run(tmp_path, slides).loc["a"]
    index = index_of(tmp_path)
    limit = float(index["sharpness"].median())
    sharp = run(tmp_path, slides, min_sharpness=limit).loc["a"]
    assert sharp["tiles"] == (index["sharpness"] >= limit).sum()
    assert sharp["tiles"] + sharp["dropped"] == whole["tiles"]
    covered = run(tmp_path, slides, min_tissue_fraction=0.9).loc["a"]
    assert covered["tiles"] == (index["tissue_fraction"] >= np.float32(0.9)).sum() < whole["tiles"]
    assert (whole["sparse"], sharp["sparse"]) == (0, 0)
    assert (covered["sparse"], covered["dropped"]) == (whole["tiles"] - covered["tiles"], 0)
    nothing = run(tmp_path, slides, grid={"tile_px": 500}, min_tissue_fraction=1.0).loc["a"]
    assert (nothing["status"], nothing["reason"], nothing["sparse"] > 0) == ("empty", "no tile has enough tissue", True)
    none = run(tmp_path, slides, min_intensity_sd=255.0).loc["a"]
    assert (none["status"], none["reason"]) == ("empty", f"all {whole['tiles']} tiles are blurred or blank")


def test_slides_that_left_at_tissue_keep_their_status_and_count_as_failed(tmp_path: Path) -> None:
    good = str(write_slide(tmp_path / "good.tiff", tissue_like(900, 700)))
    blank = str(write_slide(tmp_path / "blank.tiff", np.full((700, 900, 3), 243, np.uint8)))
    slides = {"blank": {"path": blank}, "gone": {"path": "/nowhere/s.svs"}, "good": {"path": good}}
    found = run(tmp_path, slides, max_failed=0.3)
    assert found["status"].tolist() == ["empty", "failed", "ok"]
    assert found["reason"].tolist() == ["no tissue found", "no such file: /nowhere/s.svs", ""]
    assert found["tiles"].tolist()[:2] == [0, 0]
    with pytest.raises(UserError, match=r"tiles 0: 1 of 3 slides failed; max_failed_fraction 0 allows 0.\n  gone: no such file"):
        run(tmp_path, slides, max_failed=0.0)


def test_an_empty_shard_has_an_empty_index_and_table(tmp_path: Path) -> None:
    assert len(run(tmp_path, {})) == 0
    assert read_rows(tmp_path / "tiles" / "0.arrow").schema.equals(INDEX_SCHEMA)


def test_only_what_changed_is_made_again_and_the_same_bytes_come_out(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    slides = {name: {"path": str(write_slide(tmp_path / f"{name}.tiff", tissue_like(900, 700, seed)))} for seed, name in enumerate("ab")}
    for folder in (first, second):
        folder.mkdir()
        run(folder, slides)
    assert digests(first) == digests(second)
    made = {path: path.stat().st_mtime_ns for path in (first / "tiles" / "0").iterdir()}
    write_slide(tmp_path / "b.tiff", tissue_like(900, 700, seed=9))
    run(first, slides)
    assert {path.name for path, time in made.items() if path.stat().st_mtime_ns != time} == {"b.tar", "b.arrow", "b.json", "_slides.json"}
    sidecar = json.loads((first / "tiles" / "0" / "b.json").read_text())
    assert sidecar["inputs"]["source"]["size_b"] == (tmp_path / "b.tiff").stat().st_size


def test_tiles_under_ink_are_left_out(tmp_path: Path) -> None:
    drawn = {"clean": tissue_like(1000, 800, seed=1, blobs=6)}
    inked = np.zeros((800, 1000), np.uint8)
    cv2.line(inked, (250, 400), (750, 400), 1, 190)
    for pen, colour in {"black": (30, 30, 35), "blue": (30, 60, 190), "green": (40, 140, 60)}.items():
        drawn[pen] = np.where(inked[..., None].astype(bool), np.array(colour, np.uint8), drawn["clean"])
    slides = {name: {"path": str(write_slide(tmp_path / f"{name}.tiff", image))} for name, image in drawn.items()}
    table = run(tmp_path, slides, grid={"tile_px": 64}, min_tissue_fraction=0.5)
    index = index_of(tmp_path)

    def under_ink(slide: str, least: float) -> int:
        places = index.loc[index["slide_row"] == table.index.get_loc(slide), ["x_px0", "y_px0"]].itertuples(index=False)
        return sum(inked[y : y + 64, x : x + 64].mean() >= least for x, y in places)

    assert under_ink("clean", 1.0) > 5, "where there is no ink these are tissue"
    for pen in ("black", "blue", "green"):
        assert under_ink(pen, 0.6) == 0
        assert table.loc[pen, "tiles"] > 20, "the rest of the tissue is kept"


def test_a_sparse_slide_of_200000_px_takes_little_memory(tmp_path: Path) -> None:
    write_sparse_slide(tmp_path / "a.tiff", 200_000, tissue_like(4096, 4096), at_tile=200)
    script = """
import sys
from pathlib import Path
from microtome.tiles import make_tiles
from microtome.tissue import find_tissue
from tests.stage_settings import tiles_settings, tissue_settings
folder, path = Path(sys.argv[1]), Path(sys.argv[1]) / "a.tiff"
row = find_tissue("a", path, None, None, folder, tissue_settings())
print(make_tiles("a", path, row["mpp"], row["subpixels"], folder / "a.geojson", True, folder, tiles_settings())["reader"])
print([line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")][0].split()[1])
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    reader, peak_kb = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True).stdout.split()
    assert reader == "jpeg"
    assert int(peak_kb) < 600 * 1024  # the imports take some 200 MB
    index = read_rows(tmp_path / "a.arrow").to_pandas()
    assert 15 < len(index) < 81
    assert index["x_px0"].between(200 * 512 - 512, 200 * 512 + 4096).all()


def test_slides_that_are_only_evaluated_need_no_store(tmp_path: Path) -> None:
    """Their index has the same places; what is stored of the others stays as it is, both ways."""
    slides = {
        name: {"path": str(write_slide(tmp_path / f"{name}.tiff", tissue_like(900, 700), 0.25)), "pretrain": name == "a"} for name in "ab"
    }
    stored = run(tmp_path, slides)
    places, tar = index_of(tmp_path), tmp_path / "tiles" / "0" / "a.tar"
    written = tar.stat().st_mtime_ns
    made = run(tmp_path, slides, store="pretrain")
    index = index_of(tmp_path)
    assert sorted(path.name for path in (tmp_path / "tiles" / "0").glob("*.tar")) == ["a.tar"]
    assert made["bytes"].tolist() == [stored["bytes"]["a"], 0]
    same = ["slide_row", "x_px0", "y_px0", "tissue_fraction"]
    pd.testing.assert_frame_equal(index[same], places[same])
    of_b = index[index["slide_row"] == 1]
    assert len(of_b) == made["tiles"]["b"] > 3
    assert (of_b[["offset_b", "size_b"]] == 0).all(axis=None)
    limited = run(tmp_path, slides, store="pretrain", min_intensity_sd=12.0)
    assert limited[["tiles", "dropped"]].nunique().eq(1).all(), "limits of quality hold for both slides, which are alike"
    assert limited["dropped"]["b"] > 0
    assert tar.stat().st_mtime_ns != written
    run(tmp_path, slides, store="pretrain")
    written = tar.stat().st_mtime_ns
    pd.testing.assert_frame_equal(run(tmp_path, slides), stored)
    assert tar.stat().st_mtime_ns == written, "a slide that was stored already is not made again"
