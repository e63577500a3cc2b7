"""The sheet of overlays: which slides it shows, and what stands where there is no picture."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from microtome.figure_overlays import SLIDES, draw, figure_overlays, sample
from tests.figure_checks import assert_readable, assert_saved, texts


def catalog(ok: int, failed: int, excluded: int = 2) -> pd.DataFrame:
    statuses = ["ok"] * ok + ["failed"] * failed + ["excluded"] * excluded
    names = [f"a_slide_with_a_long_name_{n:04d}" for n in range(len(statuses))]
    reasons = ["" if status == "ok" else "no µm/px in the table, the metadata or the tags" for status in statuses]
    return pd.DataFrame({"slide": names, "shard": "0", "status": statuses, "reason": reasons})


def test_what_went_wrong_is_a_quarter_at_most_where_there_is_enough_else() -> None:
    for ok, failed, expected in ((100, 50, (18, 6)), (100, 2, (22, 2)), (3, 50, (3, 21)), (3, 1, (3, 1)), (0, 2, (0, 2))):
        drawn = sample(catalog(ok, failed), 0)["status"].value_counts()
        assert (drawn.get("ok", 0), drawn.get("failed", 0), drawn.get("excluded", 0)) == (*expected, 0)


def test_the_sample_is_the_seeds() -> None:
    table = catalog(100, 50)
    assert sample(table, 1).equals(sample(table.sample(frac=1, random_state=0), 1)), "whatever the order of the catalog"
    assert not sample(table, 1).equals(sample(table, 2))
    assert not sample(table, 1)["slide"].duplicated().any()


def write_overlays(folder: Path, slides: pd.Series) -> None:
    folder.mkdir(parents=True)
    for n, slide in enumerate(slides):
        Image.fromarray(np.full((30 + 4 * n, 50, 3), 200, np.uint8)).save(folder / f"{slide}.jpg")


def test_pictures_and_reasons_can_be_read(tmp_path: Path) -> None:
    table = catalog(SLIDES, 6)
    write_overlays(tmp_path / "0", table["slide"][:SLIDES])
    figure = draw(sample(table, 0), tmp_path)
    assert_readable(figure)
    assert [len(panel.images) for panel in figure.axes] == [1] * 18 + [0] * 6
    assert sum(text.startswith("failed: no µm/px") for text, _ in texts(figure)) == 6


def test_a_reason_has_whole_words_and_says_where_it_is_cut() -> None:
    reason = "no µm/px in its metadata: give it in the slide table's column mpp " + "or leave the slide out of the table " * 5
    table = pd.DataFrame({"slide": ["a"], "shard": "0", "status": "failed", "reason": reason})
    (note,) = (text for text, _ in texts(draw(table, Path())) if text != "a")
    assert note.endswith(" …")
    assert set(note.split()) <= set(f"failed: {reason} …".split())
    assert len(note.splitlines()) == 8


def test_files(tmp_path: Path) -> None:
    table = catalog(2, 1)
    write_overlays(tmp_path / "tissue" / "0", table["slide"][:2])
    table.to_parquet(tmp_path / "slides.parquet")
    files = [tmp_path / f"overlays.{kind}" for kind in ("pdf", "png", "csv")]
    figure_overlays(tmp_path / "slides.parquet", tmp_path / "tissue", *files, 0)
    assert_saved(files[0], files[1])
    assert pd.read_csv(files[2])["slide"].tolist() == table["slide"][:3].tolist()
