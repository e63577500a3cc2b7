"""The tables against hand-made counts."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from microtome.benchmark_tables import excluded_overview
from microtome.catalog import summarise
from microtome.comparisons import aucs_on_the_same_slides, pairwise
from microtome.config import Task
from microtome.settings import TablesSettings
from microtome.tables import cohort_table, left_overview, left_table, tables
from tests.benchmark_runs import write_predictions, write_runs
from tests.test_table_files import assert_tex

SETTINGS = TablesSettings(
    seed=3,
    bootstrap=2000,
    tasks={"lesion": Task(table=Path("lesion.csv"), origin="second", disease="drawn", kind="detection")},
    labels={"res50": "res50 (random weights)"},
)


def catalog() -> pd.DataFrame:
    columns = ["slide", "patient", "organ", "scanner", "pretrain", "status", "stage", "reason", "tiles", "bytes"]
    rows = [
        ("d", "p3", "colon", None, True, "ok", "", "", 20, 900),
        ("e", "p4", "colon", "B", True, "failed", "tissue", "no µm/px", 0, 0),
        ("f", "p5", "colon", "B", True, "excluded", "cohort", "stain is IHC", 0, 0),
        ("a", "p1", "liver", "A", True, "ok", "", "", 1000, 70_000),
        ("b", "p1", "liver", "A", False, "ok", "", "", 500, 30_000),
        ("c", "p2", "liver", "B", True, "empty", "tissue", "no tissue found", 0, 0),
        ("g", "p2", "liver", "B", True, "empty", "tissue", "no tissue found", 0, 0),
    ]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    catalog().to_parquet(tmp_path / "slides.parquet")
    splits = tmp_path / "splits" / "lesion.csv"
    splits.parent.mkdir()
    splits.write_text("slide,patient,target,mccv1\na,p1,1,train\nb,p1,1,val\nd,p3,0,train\ne,p4,0,val\n")
    runs = write_runs(tmp_path, ["lesion"], ["dino@2", "res50"], splits=20)
    predictions = write_predictions(tmp_path, ["lesion"], ["dino@2", "res50"], splits=20)
    excluded = [path.with_name("excluded.csv") for path in runs]
    excluded[0].write_text("slide,reason\ne,failed: no µm/px\n")
    excluded[1].write_text("slide,reason\ne,failed: no µm/px\n" + "".join(f"{n:03d},failed: torn\n" for n in range(7)))
    (tmp_path / "attrition.csv").write_text("step,slides,patients\nslide table,7,5\n")
    tables(
        catalog=tmp_path / "slides.parquet",
        attrition=tmp_path / "attrition.csv",
        splits=[splits],
        runs=runs,
        predictions=predictions,
        excluded=excluded,
        folder=tmp_path / "tables",
        settings=SETTINGS,
    )
    return tmp_path


def test_every_slide_of_the_cohort_is_counted_once() -> None:
    table = cohort_table(catalog())
    assert table["organ"].tolist() == ["liver", "colon", "all"], "most tiles first, as in catalog/summary.md"
    assert table.set_index("organ").loc["liver"].to_dict() == {
        **{"slides": 4, "patients": 2, "ok": 2, "empty": 2, "failed": 0, "excluded": 0},
        **{"ok_patients": 1, "ok_pretrain": 1, "tiles": 1500, "bytes": 100_000},
    }
    assert table.set_index("organ").loc["all"].to_dict() == {
        **{"slides": 7, "patients": 5, "ok": 3, "empty": 2, "failed": 1, "excluded": 1},
        **{"ok_patients": 2, "ok_pretrain": 2, "tiles": 1520, "bytes": 100_900},
    }
    assert (table[["ok", "empty", "failed", "excluded"]].sum(axis=1) == table["slides"]).all()


def test_the_cohort_table_agrees_with_the_catalogs_summary() -> None:
    summary = summarise(
        catalog().assign(reader="", reader_note="", mpp_source=None, vendor="", shard=0, dropped=0, sparse=0), pd.DataFrame()
    )
    for row in cohort_table(catalog())[:2].to_dict("records"):
        assert f"| {row['organ']} | {row['ok']} | {row['ok_patients']} | {row['tiles']:,} |" in summary
    assert "# 7 slides, 3 with tiles: 1,520 tiles, 100.9 kB" in summary


def test_shown_columns_say_what_they_count(folder: Path) -> None:
    shown = (folder / "tables" / "cohort.md").read_text()
    heads = [name.strip() for name in shown.splitlines()[0].split("|")[1:-1]]
    assert heads[:4] == ["organ", "slides in the table", "patients in the table", "with tiles"]
    assert heads[-4:] == ["patients with tiles", "with tiles, for pretraining", "tiles", "size of the tiles"]


def test_slides_that_left_are_counted_by_reason() -> None:
    left = left_table(catalog())
    assert left.to_numpy().tolist() == [
        ["empty", "tissue", "no tissue found", 2],
        ["excluded", "cohort", "stain is IHC", 1],
        ["failed", "tissue", "no µm/px", 1],
    ]
    many = pd.concat([left] * 20, ignore_index=True)
    assert left_overview(left).equals(left)
    assert left_overview(many)["slides"].sum() == many["slides"].sum() == 80
    assert left_overview(many)["reason"].iloc[-1] == "35 other reasons"


def test_tasks_state_what_the_config_and_the_slides_say(folder: Path) -> None:
    row = pd.read_csv(folder / "tables" / "tasks.csv").iloc[0].to_dict()
    assert row == {
        **{
            "task": "lesion",
            "origin": "second",
            "kind": "detection",
            "disease": "drawn",
            "slides": 4,
            "without tiles": 1,
            "class 0": 2,
            "class 1": 2,
        },
        **{"patients": 3, "splits": 1, "for training": "50%", "organs": "colon (2), liver (2)", "scanners": "A (2), B (1)"},
    }


def test_aucs_are_means_sds_and_intervals_over_splits(folder: Path) -> None:
    table = pd.read_csv(folder / "tables" / "auc.csv").set_index("encoder")
    for encoder in ("dino@2", "res50"):
        runs = pd.read_csv(folder / "gma" / "lesion" / encoder / "runs.csv").query("epoch == 4")
        splits = runs.groupby("split")["auc"].mean().to_numpy()
        assert table.loc[encoder, "mean"] == pytest.approx(splits.mean())
        assert table.loc[encoder, "sd"] == pytest.approx(np.std(splits, ddof=1))
        assert table.loc[encoder, "splits"] == 20
        reference = bootstrap((splits,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
        assert table.loc[encoder, ["low", "high"]].tolist() == pytest.approx([reference.low, reference.high], abs=0.15 * splits.std())
    shown = (folder / "tables" / "auc.md").read_text()
    row = table.loc["res50"]
    assert re.search(rf"\| res50 \(random weights\) +\| {row['mean']:.3f} \({row['sd']:.3f}\) +\|\n", shown)
    assert re.search(rf"\| +\| \[{row['low']:.3f}, {row['high']:.3f}\] +\|\n", shown)
    assert f"{row['low']:.3f}, {row['high']:.3f}" in (folder / "tables" / "auc.tex").read_text()


def test_every_pair_stands_in_a_table(folder: Path) -> None:
    row = pd.read_csv(folder / "tables" / "differences.csv").iloc[0]
    aucs = aucs_on_the_same_slides(sorted(folder.glob("gma/lesion/*/predictions.parquet")))
    assert row.to_dict() == pytest.approx(pairwise(aucs, {"lesion": 1.0}).iloc[0].to_dict())
    shown = (folder / "tables" / "differences.md").read_text()
    assert f"{row['difference']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in shown
    assert f"| {row['p_holm']:.2g} " in shown
    assert_tex((folder / "tables" / "differences.tex").read_text())


def test_slides_left_out_of_the_benchmark_are_named_with_the_reason(folder: Path) -> None:
    table = pd.read_csv(folder / "tables" / "excluded.csv", dtype=str)
    assert len(table) == 9
    assert table.iloc[-1].to_dict() == {"task": "lesion", "encoder": "res50", "slide": "006", "reason": "failed: torn"}
    assert excluded_overview(table, {"res50": "res50 (random weights)"}).to_numpy().tolist() == [
        ["lesion", "dino@2", "failed: no µm/px", 1, "e"],
        ["lesion", "res50 (random weights)", "failed: no µm/px", 1, "e"],
        ["lesion", "res50 (random weights)", "failed: torn", 7, "000, 001, 002, 003, 004, …"],
    ]
    assert "failed: torn" in (folder / "tables" / "excluded.html").read_text()
