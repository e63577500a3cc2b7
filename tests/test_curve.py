"""The curve: rows on a grid of steps, the mean loss since the row before, and the same file after a resume."""

import csv
from pathlib import Path

import pytest

from microtome.curve import COLUMNS, Curve
from microtome.training_schedules import Rates

RATES = Rates(lr=0.1, weight_decay=0.04)


def add(curve: Curve, first: int, last: int, of: int = 7) -> None:
    for step in range(first, last + 1):
        curve.add({"step": step, "pseudo_epoch": step / of}, RATES, {"loss": float(step**2)}, lambda: 100.0, last=step == of)


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_row_now_and_then_and_one_at_the_end(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "curve.csv", [], [], every=3)
    add(curve, 1, 7)
    rows = read(tmp_path / "curve.csv")
    assert [row["step"] for row in rows] == ["3", "6", "7"]
    assert [float(row["loss"]) for row in rows] == pytest.approx([(1 + 4 + 9) / 3, (16 + 25 + 36) / 3, 49])
    assert list(rows[0]) == list(COLUMNS)
    assert (rows[0]["lr"], rows[0]["momentum"], rows[0]["rankme"]) == ("0.1", "", "")


@pytest.mark.parametrize("killed_after", range(1, 7))
def test_resumed_between_rows_it_is_the_same_file(killed_after: int, tmp_path: Path) -> None:
    whole = Curve(tmp_path / "whole.csv", [], [], every=3)
    add(whole, 1, 7)
    first = Curve(tmp_path / "curve.csv", [], [], every=3)
    add(first, 1, killed_after)
    state = (list(first.rows), list(first.losses))
    add(first, killed_after + 1, min(killed_after + 2, 7))  # rows that no state knows of
    second = Curve(tmp_path / "curve.csv", *state, every=3)
    add(second, killed_after + 1, 7)
    assert (tmp_path / "curve.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    second.write(tmp_path / "final.csv")
    assert (tmp_path / "final.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    curve = Curve(None, [], [], every=1)
    add(curve, 1, 7)
    assert len(curve.rows) == 7
    assert list(tmp_path.iterdir()) == []
