"""The benchmark's tables against hand-made rows."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from microtome.benchmark_tables import auc_overview, auc_table, differences_overview, excluded_overview, excluded_table
from microtome.comparisons import pairwise
from microtome.settings import TablesSettings
from microtome.statistics import summary


def test_a_mean_is_over_splits_after_averaging_replicas() -> None:
    aucs = {(1, 1): 0.6, (1, 2): 0.8, (2, 1): 0.9, (2, 2): 0.9}
    rows = [
        {"task": "t", "encoder": "e", "split": split, "replica": replica, "epoch": epoch, "auc": auc if epoch == 3 else 0.1}
        for (split, replica), auc in aucs.items()
        for epoch in (1, 2, 3)
    ]
    table = auc_table(pd.DataFrame(rows), TablesSettings(seed=5, bootstrap=100, tasks={}, labels={"e": "E"}))
    expected = summary(pd.Series([0.7, 0.9]).to_numpy(), 100, 5)
    assert table.to_dict("records") == [
        {"task": "t", "encoder": "e", "label": "E", **asdict(expected), "splits": 2},
    ]


def test_of_one_split_there_is_the_mean_alone() -> None:
    runs = pd.DataFrame([{"task": "t", "encoder": "e", "split": 1, "replica": 1, "epoch": 3, "auc": 0.5}])
    one = auc_table(runs, TablesSettings(seed=5, bootstrap=100, tasks={}, labels={}))
    assert one.to_csv(index=False).splitlines()[1] == "t,e,e,0.5,,,,1"
    assert auc_overview(one).to_numpy().tolist() == [["e", "0.500"], ["", ""]]


def test_what_cannot_be_tested_has_no_p() -> None:
    aucs = pd.DataFrame({"task": "t", "encoder": ["a", "b"], "split": 1, "auc": [0.5, 0.7]})
    assert differences_overview(pairwise(aucs, {"t": 0.25}), {"b": "B"}).to_numpy().tolist() == [["t", "a", "B", "-0.200", "", "", 1]]
    assert differences_overview(pairwise(aucs[:1], {"t": 0.25}), {}).empty


def test_slides_left_out_are_named_up_to_five(tmp_path: Path) -> None:
    files = [tmp_path / "t" / encoder / "excluded.csv" for encoder in ("a", "b")]
    for path, rows in zip(files, ("", "".join(f"{n:03d},torn\n" for n in range(7))), strict=True):
        path.parent.mkdir(parents=True)
        path.write_text(f"slide,reason\n{rows}")
    table = excluded_table(files)
    assert table["slide"].tolist() == [f"{n:03d}" for n in range(7)]
    assert excluded_overview(table, {"b": "B"}).to_numpy().tolist() == [["t", "B", "torn", 7, "000, 001, 002, 003, 004, …"]]
    assert excluded_overview(table[:0], {})["reason"].tolist() == ["none is left out"]
