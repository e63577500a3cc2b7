"""The rule `tissue`: masks, overlays and a row a slide, for a shard of drawn slides and files that are none."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from microtome.errors import UserError
from microtome.masks import rasterise, read_geojson
from microtome.settings import TissueSettings
from microtome.slides import SlideError
from microtome.tissue import SCHEMA, find_tissue, tissue
from tests.drawn_slides import tissue_like, write_slide
from tests.stage_settings import tissue_settings

SMALL = {"grid": {"tile_px": 64}, "tissue": {"min_component_tiles": 3}}


def write_cohort(path: Path, slides: dict[str, dict[str, Any]]) -> Path:
    rows = [
        {"slide": slide, "shard": "0", "mpp": np.nan, "mask": None, "pretrain": True, **values} for slide, values in sorted(slides.items())
    ]
    pd.DataFrame(rows, columns=["slide", "path", "mpp", "mask", "pretrain", "shard"]).astype({"mpp": float, "shard": str}).to_parquet(path)
    return path


def run(folder: Path, slides: dict[str, dict[str, Any]], max_failed: float = 1.0, settings: TissueSettings | None = None) -> pd.DataFrame:
    cohort = write_cohort(folder / "slides.parquet", slides)
    tissue(cohort, "0", folder / "0", folder / "0.parquet", max_failed, settings or tissue_settings(**SMALL), 2)
    return pd.read_parquet(folder / "0.parquet").set_index("slide")


def test_tissue_is_found_where_it_was_drawn(tmp_path: Path) -> None:
    drawn = tissue_like(1500, 1200, seed=1)
    found = run(tmp_path, {"s1": {"path": str(write_slide(tmp_path / "s1.tiff", drawn, 0.5))}}).loc["s1"]
    assert (found["status"], found["width_px0"], found["height_px0"], found["mpp_source"]) == ("ok", 1500, 1200, "tiff resolution")
    assert found["mpp"] == pytest.approx(0.5)
    is_tissue = np.abs(drawn.astype(int) - 243).max(axis=2) > 15
    assert found["tissue_um2"] == pytest.approx(is_tissue.sum() * 0.25, rel=0.12)
    mask = rasterise(read_geojson(tmp_path / "0" / "s1.geojson"), (10.0, 10.0), 120, 150)
    assert (mask == is_tissue[5::10, 5::10]).mean() > 0.95
    with Image.open(tmp_path / "0" / "s1.jpg") as overlay:
        assert 500 < max(overlay.size) <= 1024
        assert overlay.width / overlay.height == pytest.approx(1500 / 1200, rel=0.1)


def test_every_file_that_is_no_slide_is_a_row_with_its_own_reason(shared_data: Path, tmp_path: Path) -> None:
    slides = {f"s{n}": {"path": str(path)} for n, path in enumerate(sorted((shared_data / "bad").iterdir()))}
    good = write_slide(tmp_path / "good.tiff", tissue_like(1200, 900))
    found = run(tmp_path, {**slides, "absent": {"path": "/nowhere/x.svs"}, "good": {"path": str(good)}})
    bad = found.drop("good")
    assert (bad["status"] == "failed").all()
    assert bad["reason"].str.len().gt(10).all()
    assert bad["reason"].is_unique
    assert found.loc["good", "status"] == "ok"
    assert sorted(path.name for path in (tmp_path / "0").iterdir() if "good" in path.name) == ["good.geojson", "good.jpg", "good.json"]


def test_slides_without_tissue_or_smaller_than_a_tile_are_empty(tmp_path: Path) -> None:
    blank = write_slide(tmp_path / "blank.tiff", np.full((600, 800, 3), 242, np.uint8))
    small = write_slide(tmp_path / "small.tiff", tissue_like(800, 60), factors=(1,))
    found = run(tmp_path, {"blank": {"path": str(blank)}, "small": {"path": str(small)}})
    assert found["status"].tolist() == ["empty", "empty"]
    assert found.loc["blank", "reason"] == "no tissue found"
    assert found.loc["small", "reason"] == "smaller than a tile: 800 x 60 px, a tile is 64"


def test_a_drawn_mask_replaces_the_segmentation_and_an_edited_one_is_noticed(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "s1.tiff", tissue_like(1024, 1024))
    mask_file = tmp_path / "drawn.geojson"

    def draw(right_px0: float) -> None:
        ring = [[64, 128], [right_px0, 128], [right_px0, 320], [64, 320], [64, 128]]
        feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"objectType": "annotation"}}
        mask_file.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))

    slides = {"s1": {"path": str(slide), "mask": str(mask_file)}}
    for right_px0 in (256, 512):
        draw(right_px0)
        found = run(tmp_path, slides).loc["s1"]
        assert found["status"] == "ok"
        assert found["tissue_um2"] == (right_px0 - 64) * 192 * 0.25
        assert np.isnan(found["threshold"])
    mask_file.write_text('{"type": "FeatureCollection", "features": []}')
    assert run(tmp_path, slides).loc["s1", "reason"] == f"no tissue in the drawn mask {mask_file}"
    mask_file.unlink()
    assert f"mask {mask_file}: No such file" in run(tmp_path, slides).loc["s1", "reason"]


def test_mpp_of_the_table_counts_and_a_slide_too_coarse_is_refused(tmp_path: Path) -> None:
    path = str(write_slide(tmp_path / "s.tiff", tissue_like(1200, 900), 0.5))
    found = run(tmp_path, {"as_given": {"path": path, "mpp": 0.25}, "coarse": {"path": path, "mpp": 0.69}})
    assert found.loc["as_given", ["status", "mpp", "mpp_source"]].tolist() == ["ok", 0.25, "table"]
    assert (
        found.loc["coarse", "reason"]
        == "level 0 has 0.69 µm/px, coarser than the 0.5 that grid.mpp wants: raise grid.mpp, or leave the slide out"
    )


def test_a_second_run_makes_nothing_again_and_a_changed_slide_is_made_again(tmp_path: Path) -> None:
    paths = {name: write_slide(tmp_path / f"{name}.tiff", tissue_like(900, 700, seed)) for seed, name in enumerate(("a", "b"))}
    slides = {name: {"path": str(path)} for name, path in paths.items()}
    run(tmp_path, slides)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "0").glob("?.*")}
    run(tmp_path, slides)
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "0").glob("?.*")}
    write_slide(paths["b"], tissue_like(900, 700, 7))
    run(tmp_path, slides)
    again = {path for path, time in made.items() if path.stat().st_mtime_ns != time}
    assert {path.name for path in again} == {"b.json", "b.jpg", "b.geojson"}
    run(tmp_path, slides, settings=tissue_settings(grid={"tile_px": 64}, tissue={"grey_max_sd": 6.0}))
    assert all(path.stat().st_mtime_ns != time for path, time in made.items())


@pytest.mark.parametrize("checksum", [False, True])
def test_a_checksum_notices_a_slide_of_the_same_size_and_time(checksum: bool, tmp_path: Path) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(900, 700, 3))
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    settings = tissue_settings(**SMALL, reader={"checksum": checksum})
    run(tmp_path, {"s": {"path": str(path)}}, settings=settings)
    made_ns = (tmp_path / "0" / "s.geojson").stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=times)
    run(tmp_path, {"s": {"path": str(path)}}, settings=settings)
    assert ((tmp_path / "0" / "s.geojson").stat().st_mtime_ns != made_ns) == checksum


def test_what_left_the_shard_and_what_was_half_written_is_swept(tmp_path: Path) -> None:
    path = str(write_slide(tmp_path / "s.tiff", tissue_like(900, 700)))
    run(tmp_path, {"a": {"path": path}, "b.old": {"path": path}})
    (tmp_path / "0" / ".a.jpg.123.part").write_bytes(b"half")
    run(tmp_path, {"a": {"path": path}})
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == [
        "_contact_sheet.jpg",
        "_slides.json",
        "a.geojson",
        "a.jpg",
        "a.json",
    ]


def test_an_empty_shard_is_an_empty_table(tmp_path: Path) -> None:
    found = run(tmp_path, {})
    assert len(found) == 0
    assert [found.index.name, *found.columns] == SCHEMA.names


def test_too_many_failures_stop_the_job_after_all_were_tried(tmp_path: Path) -> None:
    good = str(write_slide(tmp_path / "good.tiff", tissue_like(900, 700)))
    slides = {"a": {"path": "/nowhere/a"}, "b": {"path": good}, "c": {"path": "/nowhere/c"}, "d": {"path": good}}
    with pytest.raises(
        UserError, match=r"tissue 0: 2 of 4 slides failed; max_failed_fraction 0.2 allows 1.\n  a: no such file: /nowhere/a\n  c: "
    ):
        run(tmp_path, slides, max_failed=0.2)
    assert not (tmp_path / "0.parquet").exists()
    assert json.loads((tmp_path / "0" / "d.json").read_text())["row"]["status"] == "ok"
    assert json.loads((tmp_path / "0" / "a.json").read_text())["row"]["reason"] == "no such file: /nowhere/a"
    slides["a"]["path"] = good
    assert run(tmp_path, slides, max_failed=0.2)["status"].tolist() == ["ok", "ok", "failed", "ok"]


def test_a_header_that_claims_more_than_any_glass_is_a_failed_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_slide(tmp_path / "s.tiff", tissue_like(900, 700))
    monkeypatch.setattr("microtome.slides.MAX_SIDE_MM", 0.4)
    with pytest.raises(SlideError, match=r"implausible size: 900 x 700 px of 0\.5 µm are 0 mm long, expected at most 0\.4 mm"):
        find_tissue("s", path, 0.5, None, tmp_path, tissue_settings())
    assert not (tmp_path / "s.geojson").exists()
