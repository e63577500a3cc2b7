"""Tile rows and the index of a shard, as anyone's Arrow reads them: none, one, many, and places alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from microtome.tile_index import INDEX_SCHEMA, READ_AS, TILE_SCHEMA, TileRows, read_as, read_rows, write_index, write_places

ROW = (120_000, 7, 2**40, 2**31 - 1, 0.5, 200.0, 20.0, 1.5)  # far into a large tar


def written(path: Path, tiles: int) -> Path:
    """The rows of a slide whose tiles lie side by side."""
    rows = TileRows()
    for tile in range(tiles):
        rows.add(ROW[0] + tile, *ROW[1:])
    assert len(rows) == tiles
    rows.write(path)
    return path


@pytest.mark.parametrize("tiles", [0, 1, 1000])
def test_rows_come_back_as_they_were_added(tiles: int, tmp_path: Path) -> None:
    found = read_rows(written(tmp_path / "a.arrow", tiles))
    assert found.schema.equals(TILE_SCHEMA)
    assert [tuple(row.values()) for row in found.to_pylist()] == [(ROW[0] + tile, *ROW[1:]) for tile in range(tiles)]


def test_a_value_that_does_not_fit_is_no_row(tmp_path: Path) -> None:
    rows = TileRows()
    rows.add(2**31, *ROW[1:])
    with pytest.raises(pa.ArrowInvalid, match="2147483648 too large to fit in"):
        rows.write(tmp_path / "a.arrow")
    assert not list(tmp_path.iterdir())


def test_an_index_joins_slides_under_their_rows_of_the_table(tmp_path: Path) -> None:
    files = [written(tmp_path / f"{tiles}.arrow", tiles) for tiles in (2, 0, 3)]
    table = [{**dict.fromkeys(READ_AS, 0.5), "slide": f"s{number}", "tiles": 9} for number in (0, 4, 7)]
    write_index(tmp_path / "index.arrow", list(zip((0, 4, 7), table, files, strict=True)))
    found = read_rows(tmp_path / "index.arrow")
    assert found.schema.equals(INDEX_SCHEMA)
    assert found["slide_row"].to_pylist() == [0, 0, 7, 7, 7]
    assert found["x_px0"].to_pylist() == [120_000, 120_001, 120_000, 120_001, 120_002]
    assert found.drop_columns("slide_row").slice(2).equals(read_rows(files[2]))
    assert pa.ipc.open_file(str(tmp_path / "index.arrow")).num_record_batches == 1
    assert [(row["slide_row"], row["slide"], row["mpp_requested"]) for row in read_as(tmp_path / "index.arrow")] == [
        (0, "s0", 0.5),
        (4, "s4", 0.5),
        (7, "s7", 0.5),
    ]
    write_index(tmp_path / "old.arrow", [(0, {"slide": "of an earlier release"}, files[0])])
    assert read_as(tmp_path / "old.arrow")[0]["level_downsample"] is None
    write_index(tmp_path / "none.arrow", [])
    assert read_rows(tmp_path / "none.arrow").equals(INDEX_SCHEMA.empty_table())


def test_places_without_tiles(tmp_path: Path) -> None:
    places = [np.array([[5, 6], [7, 8]]), np.empty((0, 2), np.int64), np.array([[9, 10]])]
    write_places(tmp_path / "index.arrow", places)
    found = read_rows(tmp_path / "index.arrow")
    assert found.schema.equals(INDEX_SCHEMA)
    table = found.to_pandas()
    assert table[["slide_row", "x_px0", "y_px0"]].to_numpy().tolist() == [[0, 5, 6], [0, 7, 8], [2, 9, 10]]
    assert (table.drop(columns=["slide_row", "x_px0", "y_px0"]) == 0).all(axis=None)
    assert read_as(tmp_path / "index.arrow") == []
    write_places(tmp_path / "none.arrow", [])
    assert read_rows(tmp_path / "none.arrow").equals(INDEX_SCHEMA.empty_table())


def test_rows_are_mapped_not_read(tmp_path: Path) -> None:
    write_places(tmp_path / "index.arrow", [np.zeros((200_000, 2), np.int64)])
    before = pa.total_allocated_bytes()
    found = read_rows(tmp_path / "index.arrow")
    assert len(found) == 200_000
    assert pa.total_allocated_bytes() - before < 10_000
