"""A slide that left the slide table stays accounted for."""

from pathlib import Path

import pandas as pd

from microtome.ever_named import COLUMNS, ever_named

ROWS = [("b", "b.svs", "ok", "", "", 12), ("a", "a.svs", "failed", "tissue", "cut off, at byte 12", 0), ("NA", "NA.svs", "ok", "", "", 3)]


def accounts(*slides: str) -> pd.DataFrame:
    return pd.DataFrame([row for row in ROWS if row[0] in slides], columns=COLUMNS).assign(organ="lung")


def test_slides_that_left_keep_their_last_account_and_those_that_come_back_get_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "named.csv"
    ever_named(accounts("a", "b", "NA"), file).to_csv(file, index=False)
    found = ever_named(accounts("b"), file)
    found.to_csv(file, index=False)
    assert found["slide"].tolist() == ["NA", "a", "b"]
    assert found["in_table"].tolist() == [False, False, True]
    assert found.loc[1, COLUMNS].tolist() == list(ROWS[1])
    again = ever_named(accounts("a").assign(status="ok", reason=""), file).set_index("slide")
    assert again["in_table"].to_dict() == {"NA": False, "a": True, "b": False}
    assert (again.loc["a", "status"], again.loc["b", "tiles"], again.loc["NA", "path"]) == ("ok", 12, "NA.svs")


def test_nothing_was_named_before(tmp_path: Path) -> None:
    found = ever_named(accounts("b", "a"), tmp_path / "named.csv")
    assert found["slide"].tolist() == ["a", "b"]
    assert found["in_table"].all()
