"""Features and aggregators made from other tiles than the catalog has are told; those of new or failed slides are not made anew."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.outdated import Outdated, digest_of, noted, write_noted

TASKS = {"one": pd.DataFrame({"slide": ["a", "b"], "shard": ["0", "1"]}), "two": pd.DataFrame({"slide": ["b", "c"], "shard": ["1", "1"]})}


def catalog(folder: Path, **digests: str | None) -> None:
    (folder / "catalog").mkdir(exist_ok=True)
    table = pd.DataFrame({"slide": list(digests), "rows_digest": list(digests.values())})
    table.to_parquet(folder / "catalog" / "slides.parquet", index=False)


def write(path: Path, **digests: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_noted(path, pd.DataFrame({"slide": list(digests)}), digest_of(digests.keys(), digests.values()))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Of slides a, b (with tiles), c (failed), and x of no task."""
    catalog(tmp_path, a="A", b="B", c=None, x="X")
    write(tmp_path / "features/enc/0.parquet", a="A")
    write(tmp_path / "features/enc/1.parquet", c=None, b="B")
    write(tmp_path / "gma/one/enc/predictions.parquet", a="A", b="B")
    write(tmp_path / "gma/two/enc/predictions.parquet", b="B", c=None)
    return tmp_path


def told(results: Path) -> list[str]:
    outdated = Outdated(TASKS, results)
    shards = [f"features {shard}" for shard in "01" if outdated.features("enc", shard)]
    return [*shards, *(f"gma {task}" for task in TASKS if outdated.gma(task, "enc"))]


def test_what_is_up_to_date_is_left(results: Path) -> None:
    assert told(results) == []
    catalog(results, a="A", b="B", c=None, x="another", new="N")
    assert told(results) == [], "slides of no task"


def test_a_slide_with_other_tiles_tells_what_was_made_from_it(results: Path) -> None:
    catalog(results, a="another", b="B", c=None)
    assert told(results) == ["features 0", "gma one"]
    write(results / "features/enc/0.parquet", a="another")
    assert told(results) == ["gma one"]


def test_a_slide_that_was_mended_or_is_broken_now(results: Path) -> None:
    catalog(results, a="A", b="B", c="mended")
    assert told(results) == ["features 1", "gma two"]
    catalog(results, a="A", b=None, c=None)
    assert told(results) == ["features 1", "gma one", "gma two"]


def test_where_nothing_can_be_compared_nothing_is_told(results: Path, tmp_path: Path) -> None:
    catalog(results, a="another", b="another", c=None)
    assert not Outdated(TASKS, None).features("enc", "0"), "imported coordinates"
    pd.DataFrame({"slide": ["a"]}).to_parquet(results / "features/enc/0.parquet")
    (results / "features/enc/1.parquet").write_bytes(b"")
    (results / "gma/one/enc/predictions.parquet").unlink()
    assert told(results) == ["gma two"], "made before digests were noted, empty, or not there"
    pd.DataFrame({"slide": ["a"]}).to_parquet(results / "catalog/slides.parquet")
    assert told(results) == []
    (results / "catalog/slides.parquet").unlink()
    assert told(results) == []


def test_a_note_leaves_the_table_as_it_is(tmp_path: Path) -> None:
    table = pd.DataFrame({"slide": ["a", "b"], "dim": [3, 0], "reason": ["", None]})
    write_noted(tmp_path / "t.parquet", table, "0123")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table)
    assert noted(tmp_path / "t.parquet") == "0123"
    assert digest_of(["a", "b"], ["A", "B"]) == digest_of(["b", "a", "c"], ["B", "A", None]) != digest_of(["a", "b"], ["B", "A"])
