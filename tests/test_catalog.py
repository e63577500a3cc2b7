"""Every slide of the table is accounted for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from microtome.catalog import account, catalog, summarise
from microtome.cohort import cohort, read_slides
from microtome.settings import CohortSettings
from microtome.tiles import tiles
from microtome.tissue import tissue
from tests.drawn_slides import tissue_like, write_slide
from tests.stage_settings import changed_config, tiles_settings, tissue_settings

SECTIONS = {"grid": {"tile_px": 64}, "tissue": {"min_component_tiles": 2}}


def catalogued(folder: Path, lines: list[str], shards: int = 3, **changes: Any) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Cohort, tissue, tiles and catalog over a slide table with these lines: the catalog, the failures, the summary."""
    table, results = folder / "slides.csv", folder / "results"
    table.write_text("\n".join(["slide,path,patient,organ,stain", *lines]) + "\n")
    used, excluded, attrition = (results / "cohort" / name for name in ("slides.parquet", "excluded.csv", "attrition.csv"))
    named = results / "catalog" / "named.csv"
    cohort(table, used, excluded, attrition, named, CohortSettings(cohort=changed_config(cohort={"shards": shards}).cohort))
    found, made = results / "tissue", results / "tiles"
    for shard in map(str, range(shards)):
        own = {"slides": used, "shard": shard, "max_failed_fraction": 1.0, "workers": 1}
        tissue(folder=found / shard, table=found / f"{shard}.parquet", settings=tissue_settings(**SECTIONS), **own)
        paths = {"tissue": found / f"{shard}.parquet", "masks": found / shard, "folder": made / shard}
        tiles(
            **paths,
            index=made / f"{shard}.arrow",
            table=made / f"{shard}.parquet",
            settings=tiles_settings(**SECTIONS, tiles=changes),
            **own,
        )
    shard_tables = [[stage / f"{shard}.parquet" for shard in range(shards)] for stage in (found, made)]
    written = [results / "catalog" / name for name in ("slides.parquet", "failures.csv", "summary.md", "outdated.csv")]
    catalog(table, used, attrition, excluded, *shard_tables, *written, results, named)
    return pd.read_parquet(written[0]), pd.read_csv(written[1]), written[2].read_text()


def test_ok_empty_failed_and_excluded_slides_are_all_there(tmp_path: Path) -> None:
    good = write_slide(tmp_path / "good.tiff", tissue_like(900, 700), 0.5)
    blank = write_slide(tmp_path / "blank.tiff", np.full((700, 900, 3), 243, np.uint8), 0.5)
    lines = [f"good{n},{good},p{n},breast,H&E" for n in range(3)]
    lines += [f"blank,{blank},p3,colon,H&E", "gone,/nowhere/s.svs,p4,colon,", f"ihc,{good},p5,breast,HER2"]
    found, failures, summary = catalogued(tmp_path, lines)
    by_slide = found.set_index("slide")
    assert by_slide["level_downsample"].dropna().to_dict() == {"good0": 1, "good1": 1, "good2": 1}
    assert by_slide["rows_digest"].dropna().nunique() == 1, "the same tiles of the same slide"
    assert by_slide["rows_digest"].count() == 3
    assert found["slide"].tolist() == sorted(["good0", "good1", "good2", "blank", "gone", "ihc"])
    assert by_slide["status"].to_dict() == {
        "good0": "ok",
        "good1": "ok",
        "good2": "ok",
        "blank": "empty",
        "gone": "failed",
        "ihc": "excluded",
    }
    assert by_slide["stage"].to_dict() == {"good0": "", "good1": "", "good2": "", "blank": "tissue", "gone": "tissue", "ihc": "cohort"}
    assert by_slide.loc["ihc", "reason"] == "stain is HER2"
    assert by_slide.loc["gone", "reason"] == "no such file: /nowhere/s.svs"
    ok = by_slide.loc["good0"]
    assert (ok["reason"], ok["width_px0"], ok["mpp_px0"], ok["tile_mpp"], ok["tile_px"]) == ("", 900, 0.5, 0.5, 64)
    assert ok["tiles"] > 5
    assert ok["bytes"] == (tmp_path / "results" / "tiles" / ok["shard"] / "good0.tar").stat().st_size
    assert by_slide.loc[["blank", "gone", "ihc"], ["tiles", "bytes"]].to_numpy().sum() == 0
    assert (ok["mpp_requested"], ok["tile_b"]) == (0.5, ok["bytes"] / ok["tiles"])
    assert by_slide.loc[["blank", "gone", "ihc"], ["mpp_requested", "tile_b", "sparse"]].isna().all(axis=None)
    assert re.search(rf"# 6 slides, 3 with tiles: [\d,]+ tiles, [\d.]+ kB, {ok['tile_b'] / 1e3:.1f} kB a tile", summary)
    for _, slides in found[found["status"] == "ok"].groupby("shard"):
        assert slides["first_row"].tolist() == [0, *slides["tiles"].cumsum().tolist()[:-1]]
    shard = by_slide.loc["gone", "shard"]
    assert failures.drop(columns="shard").to_dict("records") == [
        {"slide": "gone", "stage": "tissue", "reason": "no such file: /nowhere/s.svs", "path": "/nowhere/s.svs"}
    ]
    assert failures["shard"].astype(str).tolist() == [str(int(shard))]
    assert "# 6 slides, 3 with tiles" in summary
    assert "| excluded | cohort | stain is HER2 | 1 |" in summary
    command = f"snakemake --profile PROFILE --forcerun results/tissue/{shard}.parquet results/tiles/{shard}.parquet"
    assert f"\n{command} -- results/catalog/summary.md\n" in summary
    assert "for PROFILE (`slurm` or `profiles/local`, say):" in summary


def test_what_was_left_out_of_a_slide_is_counted(tmp_path: Path) -> None:
    good = write_slide(tmp_path / "good.tiff", tissue_like(900, 700), 0.5)
    whole, _, _ = catalogued(tmp_path, [f"good,{good},p,breast,"], shards=1)
    found, _, summary = catalogued(tmp_path, [f"good,{good},p,breast,"], shards=1, min_tissue_fraction=0.9, min_intensity_sd=10.0)
    (slide,) = found.itertuples()
    assert slide.sparse > 0 < slide.dropped
    assert slide.tiles + slide.sparse + slide.dropped == whole["tiles"][0]
    assert f"Tiles left out: {slide.dropped} blurred or blank, {slide.sparse} with too little tissue (limits" in summary
    earlier = pd.read_parquet(tmp_path / "results" / "tiles" / "0.parquet").drop(columns="sparse")  # a table of an earlier release
    results = tmp_path / "results"
    cohort_tables = [results / "cohort" / name for name in ("slides.parquet", "excluded.csv")]
    tables = pd.read_parquet(cohort_tables[0]), pd.read_csv(cohort_tables[1], dtype=str), pd.read_parquet(results / "tissue" / "0.parquet")
    assert account(read_slides(tmp_path / "slides.csv"), *tables, earlier)["sparse"].isna().all()


def test_the_retry_names_the_overlays_of_the_run(tmp_path: Path) -> None:
    found, _, _ = catalogued(tmp_path, ["a,/nowhere/a.svs,p,breast,"], shards=1)
    attrition = pd.DataFrame({"step": ["slide table"], "slides": [1], "patients": [1]})
    assert "PROFILE --configfile a.yaml 'b c.yaml' --forcerun" in summarise(found, attrition, [Path("a.yaml"), Path("b c.yaml")])


def test_a_catalog_without_failures_offers_no_retry(tmp_path: Path) -> None:
    good = write_slide(tmp_path / "good.tiff", tissue_like(900, 700), 0.5)
    found, failures, summary = catalogued(tmp_path, [f"good,{good},p,breast,"], shards=2)
    assert found["status"].tolist() == ["ok"]
    assert len(failures) == 0
    assert "forcerun" not in summary
    assert "None." in summary


def test_reasons_cannot_break_the_summary_tables(tmp_path: Path) -> None:
    found, _, _ = catalogued(tmp_path, ["a,/nowhere/a|b.svs,p,breast,"], shards=1)
    assert "/nowhere/a\\|b.svs" in summarise(found, pd.DataFrame({"step": ["slide table"], "slides": [1], "patients": [1]}))


def test_the_summary_is_a_page_whatever_the_reasons(tmp_path: Path) -> None:
    """Each has its own path in it; all of them stand in the table of failures."""
    good = write_slide(tmp_path / "good.tiff", tissue_like(900, 700), 0.5)
    gone = [f"gone{n},/nowhere/{n}.svs,p{n},breast," for n in range(50)]
    _, failures, summary = catalogued(tmp_path, [f"good,{good},p,breast,", *gone], shards=1)
    assert len(failures) == failures["reason"].nunique() == 50
    assert summary.count("no such file") == 20
    assert "|  |  | 30 others | 30 |" in summary
    assert len(summary.splitlines()) < 90
