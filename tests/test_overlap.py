"""The overlap of pretraining and validation patients, against a cohort small enough to count by hand."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.overlap import overlap


def test_patients_that_were_seen_are_counted(tmp_path: Path) -> None:
    catalog = pd.DataFrame({"slide": ["a1", "a2", "b1", "c1", "d1", "1"], "patient": ["a", "a", "b", "c", "d", "7"]})
    catalog.to_parquet(tmp_path / "catalog.parquet")
    pd.DataFrame({"slide": ["a2", "d1", "d1", "1"]}).to_parquet(tmp_path / "quota.parquet")  # d1 in two pseudo-epochs
    # a1: validation in one split, and another slide of its patient was seen; b1: validation; c1: never; d1: seen, never validation
    (tmp_path / "one.csv").write_text(
        "slide,patient,target,mccv1,mccv2\na1,a,1,val,train\nb1,b,0,val,val\nc1,c,1,train,train\nd1,d,0,train,train\n"
    )
    (tmp_path / "numbers.csv").write_text("slide,patient,target,mccv1,mccv2\n1,7,1,val,train\n")
    splits = [tmp_path / "one.csv", tmp_path / "numbers.csv"]
    overlap(tmp_path / "catalog.parquet", tmp_path / "quota.parquet", splits, tmp_path)
    found = pd.read_csv(tmp_path / "overlap.csv")
    columns = ["task", "validation_patients", "in_pretraining", "fraction", "validation_slides", "slides_in_pretraining"]
    assert list(found.columns) == columns
    assert found.to_numpy().tolist() == [["one", 2, 1, 0.5, 2, 0], ["numbers", 1, 1, 1, 1, 1]]
    assert (tmp_path / "overlap.md").read_text().splitlines()[0].startswith("| task ")


def test_tasks_that_share_patients_are_named_in_the_report_and_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"slide": ["a1", "a2", "b1", "c1"], "patient": ["a", "a", "b", "c"]}).to_parquet(tmp_path / "catalog.parquet")
    pd.DataFrame({"slide": ["c1"]}).to_parquet(tmp_path / "quota.parquet")
    head = "slide,patient,target,mccv1\n"
    for task, rows in {"one": "a1,a,1,val\nb1,b,0,val\n", "two": "a2,a,1,val\nb1,b,0,train\n", "three": "c1,c,1,val\n"}.items():
        (tmp_path / f"{task}.csv").write_text(head + rows)
    splits = [tmp_path / f"{task}.csv" for task in ("one", "two", "three")]
    overlap(tmp_path / "catalog.parquet", tmp_path / "quota.parquet", splits, tmp_path)
    shared = pd.read_csv(tmp_path / "shared.csv")
    assert shared.to_numpy().tolist() == [["one", "two", 2, 2, 2, 1], ["one", "three", 2, 1, 0, 0], ["two", "three", 2, 1, 0, 0]]
    warned = capsys.readouterr().err
    assert "warning: one (2 patients) and two (2) share 2. Each task trains its own aggregators" in warned
    assert "warning: three: 1 of 1 validation patients are pretrained on. Encoders have seen" in warned
    assert "one (2 patients) and two (2) share 2." in (tmp_path / "shared.html").read_text()
    assert "three: 1 of 1 validation patients" in (tmp_path / "overlap.html").read_text()


def test_one_task_shares_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"slide": ["a1"], "patient": ["a"]}).to_parquet(tmp_path / "catalog.parquet")
    pd.DataFrame({"slide": ["z"]}).to_parquet(tmp_path / "quota.parquet")
    (tmp_path / "one.csv").write_text("slide,patient,target,mccv1\na1,a,1,val\n")
    overlap(tmp_path / "catalog.parquet", tmp_path / "quota.parquet", [tmp_path / "one.csv"], tmp_path)
    assert capsys.readouterr().err == ""
    assert pd.read_csv(tmp_path / "shared.csv").empty
    assert "<p>None.</p>" in (tmp_path / "shared.html").read_text()
