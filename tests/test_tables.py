"""The tables against hand-made counts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microtome.config import Task
from microtome.settings import TablesSettings
from microtome.tables import cohort_table, tables
from tests.benchmark_runs import write_runs

SETTINGS = TablesSettings(
    tasks={"lesion": Task(table=Path("lesion.csv"), origin="second", disease="drawn", kind="detection")},
    labels={"res50": "res50 (random weights)"},
)


def catalog() -> pd.DataFrame:
    columns = ["slide", "patient", "organ", "scanner", "pretrain", "status", "tiles", "bytes"]
    rows = [
        ("a", "p1", "liver", "A", True, "ok", 1000, 70_000),
        ("b", "p1", "liver", "A", False, "ok", 500, 30_000),
        ("c", "p2", "liver", "B", True, "empty", 0, 0),
        ("d", "p3", "colon", None, True, "ok", 20, 900),
        ("e", "p4", "colon", "B", True, "failed", 0, 0),
        ("f", "p5", "colon", "B", True, "excluded", 0, 0),
    ]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    catalog().to_parquet(tmp_path / "slides.parquet")
    splits = tmp_path / "splits" / "lesion.csv"
    splits.parent.mkdir()
    splits.write_text("slide,patient,target,mccv1\na,p1,1,train\nb,p1,1,val\nd,p3,0,train\n")
    runs = write_runs(tmp_path, ["lesion"], ["dino@2", "res50"], splits=4)
    tables(tmp_path / "slides.parquet", [splits], runs, tmp_path / "tables", SETTINGS)
    return tmp_path


def test_every_slide_of_the_cohort_is_counted_once() -> None:
    table = cohort_table(catalog()).set_index("organ")
    assert table.loc["liver"].to_dict() == {
        **{"slides": 3, "ok": 2, "empty": 1, "failed": 0, "excluded": 0},
        **{"patients": 1, "pretrain": 1, "tiles": 1500, "bytes": 100_000},
    }
    assert table.loc["all"].to_dict() == {
        **{"slides": 6, "ok": 3, "empty": 1, "failed": 1, "excluded": 1},
        **{"patients": 2, "pretrain": 2, "tiles": 1520, "bytes": 100_900},
    }
    assert (table[["ok", "empty", "failed", "excluded"]].sum(axis=1) == table["slides"]).all()


def test_tasks_state_what_the_config_and_the_slides_say(folder: Path) -> None:
    row = pd.read_csv(folder / "tables" / "tasks.csv").iloc[0].to_dict()
    assert row == {
        **{"task": "lesion", "origin": "second", "kind": "detection", "disease": "drawn", "slides": 3, "class 0": 1, "class 1": 2},
        **{"patients": 2, "organs": "colon (1), liver (2)", "scanners": "A (2)"},
    }


def test_aucs_are_means_and_sds_over_splits(folder: Path) -> None:
    table = pd.read_csv(folder / "tables" / "auc.csv").set_index("encoder")
    for encoder in ("dino@2", "res50"):
        runs = pd.read_csv(folder / "gma" / "lesion" / encoder / "runs.csv").query("epoch == 4")
        splits = runs.groupby("split")["auc"].mean().to_numpy()
        assert table.loc[encoder, "mean"] == pytest.approx(splits.mean())
        assert table.loc[encoder, "sd"] == pytest.approx(np.std(splits, ddof=1))
        assert table.loc[encoder, "splits"] == 4
    shown = (folder / "tables" / "auc.md").read_text()
    assert f"| res50 (random weights) | {table.loc['res50', 'mean']:.3f} ({table.loc['res50', 'sd']:.3f}) |" in shown


def test_markdown_separates_thousands(folder: Path) -> None:
    shown = (folder / "tables" / "cohort.md").read_text()
    assert " 1,520 |" in shown
    assert shown.splitlines()[0].startswith("| organ")
