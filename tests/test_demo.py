"""The drawn cohort: files that OpenSlide opens, classes that differ in texture and in nothing else, bytes that follow from the seed."""

from pathlib import Path

import cv2
import numpy as np
import openslide
import pandas as pd
import pytest

from microtome.cohort import read_slides
from microtome.demo import demo, plan
from microtome.errors import UserError
from microtome.statistics import auc
from microtome.tasks import read_task

SLIDES, SIZE = 12, 0.35


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        demo(Path("demo"), slides=SLIDES, size=SIZE)
    return folder / "demo"


def pixels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Level 0 at 0.5 µm/px, [height, width, 3] float32, and where there is tissue and no pen, [height, width]."""
    with openslide.OpenSlide(path) as slide:
        level = slide.get_best_level_for_downsample(0.5 / float(slide.properties["openslide.mpp-x"]))
        image = np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB"), np.float32)
    ground = image[:20].mean((0, 1))
    tissue = cv2.GaussianBlur((np.abs(image - ground).max(2) > 12).astype(np.float32), (0, 0), 3) > 0.5
    inner = cv2.erode(tissue.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return image, inner & (image[..., 0] > image[..., 1] + 4)  # a pen is blue or green


def test_openslide_sees_a_generic_pyramid_with_its_resolution(drawn: Path) -> None:
    seen = set()
    for row in plan(0, SLIDES, SIZE):
        if row.truncated:
            continue
        with openslide.OpenSlide(drawn / "slides" / f"{row.slide}.tiff") as slide:
            assert slide.properties["openslide.vendor"] == "generic-tiff"
            assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(row.drawing.mpp, rel=1e-6)
            assert slide.level_count >= 2
            assert slide.level_downsamples[1] == pytest.approx(2, rel=0.01)
            assert min(slide.level_dimensions[-1]) < 400
        seen.add(row.drawing.mpp)
    assert seen == {0.25, 0.5}


def test_the_broken_file_cannot_be_opened(drawn: Path) -> None:
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(drawn / "slides" / "broken.tiff")


def test_the_tables_are_those_the_workflow_reads(drawn: Path) -> None:
    slides = read_slides(drawn / "slides.csv")
    assert len(slides) == SLIDES
    assert slides["path"].str.startswith("demo/slides/").all()  # relative to the working directory
    assert slides["stain"].value_counts().to_dict() == {"H&E": SLIDES - 1, "IHC": 1}
    assert set(slides["patient"]) > set((drawn / "excluded_patients.txt").read_text().split())
    assert not slides["pretrain"][slides["origin"] == "second institution"].any()
    for task in ("texture", "alignment"):
        targets = read_task(drawn / "tasks" / f"{task}.csv").merge(slides, on="slide")
        assert targets.groupby("target")["patient"].nunique().to_dict() == {0: 4, 1: 4}
        assert targets["organ"].nunique() == 2


@pytest.mark.parametrize("slides", [12, 24, 40])
def test_no_column_of_the_table_tells_the_classes_apart(slides: int) -> None:
    rows = pd.DataFrame([vars(row) | {"mpp": row.drawing.mpp, "pieces": row.drawing.pieces} for row in plan(0, slides, 1.0)])
    rows = rows.dropna(subset="texture")
    for task in ("texture", "alignment"):
        for column in ("organ", "origin", "scanner", "mpp", "pieces"):
            counts = pd.crosstab(rows[column], rows[task])
            assert (counts[0] == counts[1]).all(), f"{column} goes with {task}"
        assert rows.groupby("patient")[task].nunique().max() == 1
    crossed = pd.crosstab(rows["texture"], rows["alignment"]).to_numpy()
    assert crossed.max() - crossed.min() <= 1  # the two tasks do not go with each other either
    assert rows.groupby("patient")["origin"].nunique().max() == 1


def test_some_patients_have_more_than_one_slide() -> None:
    patients = pd.Series([row.patient for row in plan(0, 24, 1.0) if row.texture is not None])
    assert (patients.value_counts() > 1).sum() == 4


def test_mean_tissue_colour_is_equal_in_both_classes_and_texture_is_not(drawn: Path) -> None:
    rows = [row for row in plan(0, SLIDES, SIZE) if row.texture is not None]
    colour, contrast = [], []
    for row in rows:
        image, tissue = pixels(drawn / "slides" / f"{row.slide}.tiff")
        colour.append(image[tissue].mean(0))
        detail = image[..., 1] - cv2.GaussianBlur(image[..., 1], (0, 0), 3)
        contrast.append(np.abs(detail[tissue]).mean())
    target = np.array([row.texture for row in rows])
    means = np.stack(colour)
    assert np.abs(means[target == 1].mean(0) - means[target == 0].mean(0)).max() < 1.0  # grey levels of 255
    assert np.abs(means[0::2] - means[1::2]).max() < 2.5  # of each pair
    assert means.std(0).max() > 3  # though slides differ
    assert auc(target, np.array(contrast)) > 0.8


def test_a_second_call_touches_nothing_and_mends_what_is_gone(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(drawn.parent)
    files = sorted(path for path in drawn.rglob("*") if path.is_file())
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    demo(Path("demo"), slides=SLIDES, size=SIZE)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files} == before
    lost = drawn / "slides" / "colon_02.tiff"
    lost.unlink()
    demo(Path("demo"), slides=SLIDES, size=SIZE)
    assert [path for path in files if path.stat().st_mtime_ns != before[path][0]] == [lost]
    assert lost.read_bytes() == before[lost][1]  # bytes follow from the seed
    assert sorted(path for path in drawn.rglob("*") if path.is_file()) == files


def test_another_seed_draws_other_slides() -> None:
    other = plan(1, SLIDES, SIZE)[0]
    assert other.drawing != plan(0, SLIDES, SIZE)[0].drawing


@pytest.mark.parametrize("slides", [10, 13])
def test_too_few_slides_or_an_odd_number(slides: int) -> None:
    with pytest.raises(UserError, match=f"found {slides}, expected an even number of at least 12"):
        plan(0, slides, 1.0)
