"""The curve: rows on a grid of steps, the mean loss since the row before, and the same file after a resume."""

import csv
import time
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from microtome.curve import COLUMNS, Curve, spacing
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


@pytest.mark.parametrize("steps", [1, 9, 10, 31, 999, 1000, 1001, 10_007, 45_138, 60_185])
def test_every_probe_is_a_row(steps: int) -> None:
    """At the published 60,185 and 45,138 steps, too."""
    a_row, a_probe = spacing(steps)
    rows, probes = range(a_row, steps + 1, a_row), range(a_probe, steps + 1, a_probe)
    assert set(probes) <= set(rows)
    assert min(10, steps) <= len(probes) <= max(19, steps / 1000)
    assert min(steps, 500) <= len(rows) <= 1000


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    curve = Curve(None, [], [], every=1)
    add(curve, 1, 7)
    assert len(curve.rows) == 7
    assert list(tmp_path.iterdir()) == []


def events_of(file: Path) -> list[Event]:
    """The records of a TensorBoard file: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    data, found = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return found


def test_tensorboard_sees_each_row_once_after_a_resume(tmp_path: Path) -> None:
    events = tmp_path / "events"
    first = Curve(tmp_path / "curve.csv", [], [], every=3, events=events)
    add(first, 1, 4)
    state = (list(first.rows), list(first.losses))
    add(first, 5, 6)  # a row that no state knows of
    time.sleep(1.1)  # a file of events is named by its second
    second = Curve(tmp_path / "curve.csv", *state, every=3, events=events)
    add(second, 5, 7)
    shown: dict[int, float] = {}
    for file in sorted(events.iterdir()):
        for event in events_of(file):
            if event.session_log.status == SessionLog.START:  # TensorBoard forgets earlier events of this step and later
                shown = {step: loss for step, loss in shown.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == "loss":
                    assert event.step not in shown
                    shown[event.step] = value.simple_value
    assert shown == pytest.approx({int(row["step"]): float(row["loss"]) for row in read(tmp_path / "curve.csv")})
