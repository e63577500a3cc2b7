"""The figure of a task's attention: one scale about 1, the tiles' own pixels, readable, and made where a slide is gone."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from microtome import one_level
from microtome.attended import Attended, with_tiles
from microtome.figure_attention import DPI, FOOT_PX, GONE, HEAD_PX, Sheet, draw, figure_attention, look, pages, scale_of, tile_image
from microtome.settings import AttentionSettings
from microtome.slides import open_slide
from tests.benchmark_runs import write_runs
from tests.drawn_slides import tissue_like, write_slide
from tests.figure_checks import assert_readable, assert_saved, texts
from tests.test_attended import predictions
from tests.test_quality_sample import catalog_of
from tests.tile_folder import slide_table, tile_jpeg

TILES = [9, 12, 1, 30]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four slides with tiles of 32 px in a row, attention on them, and the file of the first: the others are archived."""
    table = slide_table({"breast": TILES}, shards=2, path=[str(tmp_path / f"{n}.tiff") for n in range(4)])
    catalog_of(tmp_path, table.assign(width_px0=1000, height_px0=200, mpp_px0=0.5, tile_px0=32.0))
    write_slide(tmp_path / "0.tiff", tissue_like(1000, 200))
    (runs,) = write_runs(tmp_path / "gma", ["texture"], ["res50"], splits=3)
    rng = np.random.default_rng(0)
    parts = []
    for number, tiles in enumerate(TILES):
        weights = rng.exponential(size=tiles)
        parts.append(pd.DataFrame({"slide": f"slide{number:03d}", "tile": range(tiles), "attention": weights / weights.sum(), "runs": 3}))
    pd.concat(parts).to_parquet(runs.parent / "attention.parquet")
    found = predictions(slide000=(0, [0.1]), slide001=(0, [0.7]), slide002=(1, [0.9]), slide003=(1, [0.2]))
    found.to_parquet(runs.parent / "predictions.parquet")
    return tmp_path


def test_the_figure_is_made_from_files(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(one_level, "open_slide", lambda path: opened.append(path) or open_slide(path))
    paths = sorted(folder.glob("gma/**/predictions.parquet"))
    outputs = [folder / f"attention.{kind}" for kind in ("pdf", "png", "csv")]
    settings = AttentionSettings(slides=1, named=(), labels={"res50": "res50 (random weights)"})
    figure_attention(paths, folder / "catalog.parquet", folder / "tiles", *outputs, settings)
    assert_saved(outputs[0], outputs[1])
    table = pd.read_csv(outputs[2])
    assert table.groupby("slide").size().to_dict() == {f"slide{number:03d}": tiles for number, tiles in enumerate(TILES)}
    for _, rows in table.groupby("slide"):
        assert rows["attention_times_tiles"].mean() == pytest.approx(1, abs=1e-5)
    assert sorted(opened) == [folder / f"{number}.tiff" for number in range(4)], "each is read once"
    said = capsys.readouterr().out
    assert "slide000" not in said
    assert f"slide003: no picture: no such file: {folder / '3.tiff'}" in said


def looked_at(folder: Path) -> list[Attended]:
    attention = pd.read_parquet(next(folder.glob("gma/**/attention.parquet")))
    rows = pd.read_parquet(folder / "catalog.parquet").assign(target=0, why="worst", probability=0.25, runs=40).itertuples()
    return [with_tiles(row, attention[attention["slide"] == row.slide], folder / "tiles") for row in rows]


def test_nothing_overlaps_and_titles_say_why_a_slide_is_shown(folder: Path) -> None:
    slides = sorted(looked_at(folder), key=lambda slide: str(slide.about.slide))[:2]
    seen = [look(slide) for slide in slides]
    figure = draw(seen, "texture: gated attention on res50 (random weights), the best encoder by AUC", scale_of(slides))
    assert_readable(figure)
    assert [bool(each.gone) for each in seen] == [False, True]
    shown = [text for text, _ in texts(figure)]
    assert "slide000: class 0, predicted worst of its class: probability of it 0.25, mean of 40 runs" in shown
    assert shown.count("slide not there") == 1
    assert {"1", "most attended", "least attended"} <= set(shown)


def test_the_scale_is_symmetrical_about_an_equal_share(folder: Path) -> None:
    slides = looked_at(folder)
    highest = max(slide.times.max() for slide in slides)
    scale = scale_of(slides)
    assert scale.vmax is not None
    assert scale.vmin == 1 / scale.vmax
    assert scale.vmax / 2 < highest <= scale.vmax
    assert scale(1.0) == pytest.approx(0.5)
    flat = [Attended(slide.about, slide.tiles, np.ones(len(slide.tiles))) for slide in slides]
    assert scale_of(flat).vmax == 2


def test_tiles_are_those_of_the_store_or_else_of_the_slide(folder: Path) -> None:
    slides = {slide.about.slide: slide for slide in looked_at(folder)}
    expected = np.asarray(Image.open(io.BytesIO(tile_jpeg("slide001", 7, 32))))
    assert (tile_image(slides["slide001"], 7) == expected).all()
    for name in ("slide000", "slide001"):
        slides[name].tiles.tar.unlink()
    with open_slide(folder / "0.tiff") as slide:
        assert (tile_image(slides["slide000"], 7) == slide.read(7 * 32, 0, 0, 32, 32)).all()
    assert (tile_image(slides["slide001"], 7) == GONE).all()  # neither is there


def test_pages_of_the_pdf_fit_a_journals(folder: Path) -> None:
    for tile_px, slides, expected in ((256, 4, [2, 2]), (256, 6, [3, 3]), (256, 8, [3, 3, 2]), (128, 4, [2, 2]), (32, 2, [2])):
        found = pages(list(range(slides)), tile_px)
        assert [len(some) for some in found] == expected, tile_px
        assert [slide for some in found for slide in some] == list(range(slides))
        assert (HEAD_PX + max(expected) * Sheet(tile_px).row_px + FOOT_PX) / DPI * 25.4 <= 240
    paths = sorted(folder.glob("gma/**/predictions.parquet"))
    outputs = [folder / f"attention.{kind}" for kind in ("pdf", "png", "csv")]
    settings = AttentionSettings(slides=1, named=(), labels={})
    figure_attention(paths, folder / "catalog.parquet", folder / "tiles", *outputs, settings)
    boxes = re.findall(rb"/MediaBox \[ 0 0 ([0-9.]+) ([0-9.]+) \]", outputs[0].read_bytes())
    assert len(boxes) == 2
    assert all(float(high) / 72 * 25.4 <= 240 for _, high in boxes)
    assert Image.open(outputs[1]).height > max(float(high) for _, high in boxes) / 72 * DPI, "the PNG is one sheet"
