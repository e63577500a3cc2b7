"""A slide that left the slide table stays accounted for."""

from pathlib import Path

import pandas as pd

from microtome.ever_named import COLUMNS, NO_ACCOUNT, ever_named, names_noted

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


def test_a_slide_that_left_before_a_catalog_was_made_is_known_by_name(tmp_path: Path) -> None:
    file = tmp_path / "named.csv"
    ever_named(accounts("a"), file).to_csv(file, index=False)
    names_noted(accounts("a", "b"), file).to_csv(file, index=False)  # its run does not come to an end
    left = names_noted(accounts("b", "NA"), file)
    assert left["in_table"].to_dict() == {0: True, 1: False, 2: True}
    assert left["slide"].tolist() == ["NA", "a", "b"]
    assert left.loc[1, COLUMNS].tolist() == list(ROWS[1]), "its account stays"
    assert left.loc[2, COLUMNS].to_dict() == {"slide": "b", "path": "b.svs", **NO_ACCOUNT}
    left.to_csv(file, index=False)
    found = ever_named(accounts("NA"), file).set_index("slide")
    assert found["status"].to_dict() == {"NA": "ok", "a": "failed", "b": "named"}
    assert found["in_table"].to_dict() == {"NA": True, "a": False, "b": False}
