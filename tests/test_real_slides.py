"""Cohort, tissue, tiles, catalog and features over real slides, and over files that are none: each account is right, none harms another."""

from collections.abc import Callable
from pathlib import Path

import h5py
import pandas as pd
import pytest

from microtome.catalog import catalog
from microtome.cohort import cohort
from microtome.config import Config, load_config
from microtome.errors import UserError
from microtome.features import features
from microtome.jobs import Jobs
from microtome.tiles import tiles
from microtome.tissue import tissue
from tests.test_config import values

TCGA, CMU = "tcga-cr-7395-01a-01-ts1.svs", "CMU-1-Small-Region.svs"
PHILIPS, DICOM = "philips_style_5714_HE_BT_C2.tiff", "multi_frame_jpeg_camelyon_challenge_image.dcm"
Run = Callable[..., pd.DataFrame]


def one_shard(table: Path, tile_px: int, mpp: float, max_mpp: float) -> Config:
    changed = values()
    changed |= {"slides": str(table), "tasks": {}, "features": values("demo.yaml")["features"]}
    changed["cohort"]["shards"] = 1
    changed["grid"] |= {"tile_px": tile_px, "mpp": mpp}
    changed["reader"]["max_mpp"] = max_mpp
    changed["tissue"]["min_component_tiles"] = 2  # these are small regions, not whole slides
    changed["features"] |= {"shards": 1, "encoders": {"tres50": values("demo.yaml")["features"]["encoders"]["tres50"]}}
    return load_config(changed)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the rules over files named as `slide=(path, µm/px or "")`; the catalog, indexed by slide."""

    def catalog_of(mpp: float, tile_px: int = 256, max_mpp: float = 20.0, **slides: tuple[Path, object]) -> pd.DataFrame:
        table, results = tmp_path / "slides.csv", tmp_path / "results"
        rows = [f"{slide},{path},patient_{slide},organ,{given}" for slide, (path, given) in slides.items()]
        table.write_text("\n".join(["slide,path,patient,organ,mpp", *rows]) + "\n")
        jobs = Jobs(one_shard(table, tile_px, mpp, max_mpp))
        used, excluded, attrition = (results / "cohort" / name for name in ("slides.parquet", "excluded.csv", "attrition.csv"))
        named = results / "catalog" / "named.csv"
        cohort(table, used, excluded, attrition, named, jobs.cohort_settings())
        found, made = results / "tissue", results / "tiles"
        tissue(used, "0", found / "0", found / "0.parquet", 1.0, jobs.tissue_settings(), 1)
        tiles(used, "0", found / "0.parquet", found / "0", made / "0", made / "0.arrow", made / "0.parquet", 1.0, jobs.tiles_settings(), 1)
        written = [results / "catalog" / name for name in ("slides.parquet", "failures.csv", "summary.md", "outdated.csv")]
        catalog(table, used, attrition, excluded, [found / "0.parquet"], [made / "0.parquet"], *written, results, named)
        return pd.read_parquet(written[0]).set_index("slide")

    return catalog_of


def test_slides_at_half_a_micrometre(run: Run, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "slides"
    found = run(
        mpp=0.5,
        cmu=(folder / CMU, ""),
        tcga=(folder / TCGA, 0.25),
        tcga_without_mpp=(folder / TCGA, ""),
        philips=(folder / PHILIPS, ""),
        dicom=(folder / DICOM, ""),
    )
    assert found["status"].to_dict() == {"cmu": "ok", "tcga": "ok", "tcga_without_mpp": "failed", "philips": "failed", "dicom": "failed"}
    assert found["mpp_px0"]["cmu"] == pytest.approx(0.499)
    assert found["mpp_px0"]["tcga"] == 0.25
    assert found["mpp_source"]["tcga"] != found["mpp_source"]["cmu"]
    assert found["tiles"]["cmu"] > 30
    assert found["tiles"]["tcga"] > 10
    assert "mpp" in found["reason"]["tcga_without_mpp"]
    assert "0.69" in found["reason"]["philips"]
    assert "0.5" in found["reason"]["philips"]
    assert "28.9" in found["reason"]["dicom"]
    the_features_of_each_tile(tmp_path, found)


def the_features_of_each_tile(folder: Path, found: pd.DataFrame, tile_px: int = 256, mpp: float = 0.5, max_mpp: float = 20.0) -> None:
    task = folder / "task.csv"
    ok = list(found.index[found["status"] == "ok"])
    task.write_text("slide,target\n" + "".join(f"{slide},{number % 2}\n" for number, slide in enumerate([*ok, "unknown"])))
    results = folder / "results"
    jobs = Jobs(one_shard(folder / "slides.csv", tile_px, mpp, max_mpp))
    features(
        catalog=results / "catalog" / "slides.parquet",
        tiles=results / "tiles",
        slides_of=[task],
        shard="0",
        shards=1,
        folder=results / "features" / "0",
        table=results / "features" / "0.parquet",
        settings=jobs.encoder_settings("tres50"),
        batch=16,
        workers=1,
        weights=None,
    )
    for slide in ok:
        with h5py.File(results / "features" / "0" / f"{slide}.h5") as file:
            assert file["features"].shape == (found["tiles"][slide], 1024)
            assert file["coords"].shape == (found["tiles"][slide], 2)


def test_a_philips_slide_at_its_own_resolution(run: Run, shared_data: Path, tmp_path: Path) -> None:
    found = run(mpp=0.69, philips=(shared_data / "slides" / PHILIPS, ""))
    assert found["status"]["philips"] == "ok"
    assert found["tiles"]["philips"] > 200
    the_features_of_each_tile(tmp_path, found, mpp=0.69)


def test_a_dicom_overview_where_the_settings_allow_it(run: Run, shared_data: Path, tmp_path: Path) -> None:
    found = run(mpp=29.0, tile_px=32, max_mpp=50.0, dicom=(shared_data / "slides" / DICOM, ""))
    assert found["status"]["dicom"] == "ok"
    assert found["tiles"]["dicom"] > 20
    the_features_of_each_tile(tmp_path, found, tile_px=32, mpp=29.0, max_mpp=50.0)


def test_each_bad_file_has_its_own_reason_and_the_others_are_unharmed(run: Run, shared_data: Path) -> None:
    bad = {path.stem.replace(".", "_").lower(): (path, "") for path in sorted((shared_data / "bad").iterdir())}
    missing = {"missing": (shared_data / "bad" / "nowhere.svs", "")}
    found = run(mpp=0.5, cmu=(shared_data / "slides" / CMU, ""), **bad, **missing)
    assert found["status"]["cmu"] == "ok"
    failed = found.drop(index="cmu")
    assert set(failed["status"]) == {"failed"}
    assert len(failed) == 8
    assert "no such file" in failed["reason"]["missing"]
    assert "Git LFS" in failed["reason"]["lfs-pointer_0214df71ae527e2144021178c453d204"]
    assert "empty" in failed["reason"]["empty"] or "0 bytes" in failed["reason"]["empty"]
    assert failed["reason"].nunique() >= 6, failed["reason"].to_dict()


def test_too_many_missing_slides_stop_the_job_after_all_were_tried(tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    rows = "".join(f"s{number},/nowhere/{number}.svs,p{number},organ,\n" for number in range(3))
    table.write_text("slide,path,patient,organ,mpp\n" + rows)
    jobs = Jobs(one_shard(table, 256, 0.5, 20.0))
    used = tmp_path / "slides.parquet"
    cohort(table, used, tmp_path / "excluded.csv", tmp_path / "attrition.csv", tmp_path / "named.csv", jobs.cohort_settings())
    with pytest.raises(UserError) as error:
        tissue(used, "0", tmp_path / "0", tmp_path / "0.parquet", 0.05, jobs.tissue_settings(), 1)
    assert "3 of 3 slides failed" in str(error.value)
    assert "/nowhere/0.svs" in str(error.value)
    assert not (tmp_path / "0.parquet").exists()
