"""Features and aggregators made from other tiles than the catalog has are told; those of new or failed slides are not made anew."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.outdated import COLUMNS, Outdated, digest_of, find_outdated, noted, write_noted

TASKS = {"one": ["a", "b"], "two": ["b", "c"]}


def catalog(folder: Path, **digests: str | None) -> None:
    """What the rule `catalog` does once it knows the digest of each slide's tiles."""
    (folder / "catalog").mkdir(exist_ok=True)
    table = pd.DataFrame({"slide": list(digests), "rows_digest": list(digests.values())})
    find_outdated(folder, table).to_csv(folder / "catalog" / "outdated.csv", index=False)


def write(path: Path, **digests: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_noted(path, pd.DataFrame({"slide": list(digests)}), digest_of(digests.keys(), digests.values()))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Of slides a, b (with tiles), c (failed), and x of no task."""
    write(tmp_path / "features/enc/0.parquet", a="A")
    write(tmp_path / "features/enc/1.parquet", c=None, b="B")
    write(tmp_path / "gma/one/enc/predictions.parquet", a="A", b="B")
    write(tmp_path / "gma/two/enc/predictions.parquet", b="B", c=None)
    (tmp_path / "splits").mkdir()
    for task, slides in TASKS.items():
        pd.DataFrame({"slide": slides, "mccv1": "train"}).to_csv(tmp_path / f"splits/{task}.csv", index=False)
    catalog(tmp_path, a="A", b="B", c=None, x="X")
    return tmp_path


def told(results: Path) -> list[str]:
    outdated = Outdated(results)
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
    assert Outdated(results).features("enc", "0")
    assert not Outdated(None).features("enc", "0"), "imported coordinates"
    pd.DataFrame({"slide": ["a"]}).to_parquet(results / "features/enc/0.parquet")
    (results / "features/enc/1.parquet").write_bytes(b"")
    (results / "gma/one/enc/predictions.parquet").unlink()
    assert told(results) == ["gma two"], "made before digests were noted, empty, or not there"
    catalog(results, a="another", b="another", c=None)
    assert told(results) == ["gma two"], "made before digests were noted, empty, or not there"
    (results / "catalog/outdated.csv").write_text("")
    assert told(results) == []
    (results / "catalog/outdated.csv").unlink()
    assert told(results) == []


def test_what_was_made_anew_for_other_slides_is_not_told_again(results: Path) -> None:
    catalog(results, a="another", b="B", c=None)
    pd.DataFrame({"slide": ["a", "n"]}).to_csv(results / "splits/one.csv", index=False)
    write(results / "features/enc/0.parquet", a="another", n="N")
    write(results / "gma/one/enc/predictions.parquet", a="another", n="N")
    assert told(results) == []
    (results / "splits/two.csv").unlink()
    catalog(results, a="another", b="B", c=None, n="N")
    listed = pd.read_csv(results / "catalog/outdated.csv")
    assert listed.columns.tolist() == COLUMNS
    assert listed["file"].tolist() == ["gma/two/enc/predictions.parquet"], "whose task is gone: no job asks for it"


def test_a_note_leaves_the_table_as_it_is(tmp_path: Path) -> None:
    table = pd.DataFrame({"slide": ["a", "b"], "dim": [3, 0], "reason": ["", None]})
    write_noted(tmp_path / "t.parquet", table, "0123")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table)
    assert noted(tmp_path / "t.parquet") == "0123"
    assert digest_of(["a", "b"], ["A", "B"]) == digest_of(["b", "a", "c"], ["B", "A", None]) != digest_of(["a", "b"], ["B", "A"])
