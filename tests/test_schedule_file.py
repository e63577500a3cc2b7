"""A schedule on disk: 16 bytes a row, mapped, read by anyone's Arrow; and what is no schedule."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microtome.errors import UserError
from microtome.schedule_file import ROW, Schedule, ScheduledTile, write_schedule


def test_a_row_is_16_bytes_and_mapped(tmp_path: Path) -> None:
    rows = np.zeros(200_000, ROW)
    write_schedule(tmp_path / "s.arrow", rows, ["results/tiles/0/a.tar"], 256)
    assert (tmp_path / "s.arrow").stat().st_size < 200_000 * 16 + 2000
    before = pa.total_allocated_bytes()
    made = Schedule(tmp_path / "s.arrow")
    assert len(made) == 200_000
    assert pa.total_allocated_bytes() - before < 10_000


def test_a_file_that_is_no_schedule(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such schedule"):
        Schedule(tmp_path / "1.arrow")
    (tmp_path / "1.arrow").write_text("not Arrow")
    with pytest.raises(UserError, match="expected a schedule written by the rule schedule"):
        Schedule(tmp_path / "1.arrow")
    batch = pa.record_batch({"x": [1]})
    with pa.ipc.new_file(str(tmp_path / "2.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(UserError, match="expected a schedule written by the rule schedule"):
        Schedule(tmp_path / "2.arrow")


def test_any_arrow_reads_what_the_docstring_says(tmp_path: Path) -> None:
    rows = np.array([(1, 7, 2**32 - 1, 2**32 - 1), (0, 2**32 - 1, 1, 20), (1, 8, 3, 30)], ROW)  # the largest that fit
    write_schedule(tmp_path / "s.arrow", rows, ["a/x.tar", "b/y.z.tar"], 224)
    found = pa.ipc.open_file(str(tmp_path / "s.arrow")).read_all()
    assert found.schema.metadata == {b"microtome": b'{"tile_px": 224}'}
    assert found.schema.field("tar").type == pa.dictionary(pa.uint32(), pa.string())
    assert found["tar"].to_pylist() == ["b/y.z.tar", "a/x.tar", "b/y.z.tar"]
    made = Schedule(tmp_path / "s.arrow")
    assert made.tile_px == 224
    assert [made[n] for n in range(3)] == [
        ScheduledTile("b/y.z.tar", 7, (2**32 - 1) * 512, 2**32 - 1),
        ScheduledTile("a/x.tar", 2**32 - 1, 512, 20),
        ScheduledTile("b/y.z.tar", 8, 1536, 30),
    ]
    assert str(made[2]) == "tile 8 of slide y.z (30 bytes at byte 1536 of b/y.z.tar)"


def test_a_schedule_of_nothing(tmp_path: Path) -> None:
    write_schedule(tmp_path / "s.arrow", np.zeros(0, ROW), [], 256)
    assert len(Schedule(tmp_path / "s.arrow")) == 0


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    write_schedule(tmp_path / "s.arrow", np.zeros(3, ROW), ["a.tar"], 256)
    whole = (tmp_path / "s.arrow").read_bytes()
    for size_b in (*range(0, len(whole), 41), len(whole) - 1):
        (tmp_path / "s.arrow").write_bytes(whole[:size_b])
        with pytest.raises(UserError, match=r"s\.arrow: expected a schedule .* Remove it and make it again\."):
            Schedule(tmp_path / "s.arrow")
