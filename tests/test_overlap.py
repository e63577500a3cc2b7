"""The overlap of pretraining and validation patients, against a cohort small enough to count by hand."""

from pathlib import Path

import pandas as pd

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
