"""What the stages of the published experiment cost against numbers worked out by hand; a cohort that is read from its tables."""

import os
from pathlib import Path

import pandas as pd
import pytest

from microtome.config import Config, load_config
from microtome.jobs import _encoders, _with_nulls
from microtome.stages import Cohort, Stage, passes, read_cohort, stages_of
from tests.test_config import values

TASKS = {"mshs_breast": 1998, "mshs_ibd": 1441, "mshs_er": 2000, "mshs_egfr": 294, "mskcc_egfr": 1000, "mskcc_io": 454}


PUBLISHED = Cohort(423_563, TASKS, sum(TASKS.values()), 3.25e9 / 423_563, 100e12 / 3.25e9, "the published means")


@pytest.fixture
def config() -> Config:
    return load_config(values("paper.yaml"))


def by_name(config: Config, cohort: Cohort = PUBLISHED) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages_of(config, cohort)}


def test_quality_has_a_job_for_each_checkpoint_encoder_and_null(config: Config) -> None:
    encoders = dict(_encoders(config))
    stage = by_name(config)["quality"]
    assert stage.jobs == len(dict(_with_nulls(encoders)))
    assert stage.tiles == stage.jobs * config.quality.tiles
    assert 0 < stage.gpu_h < by_name(config)["features dino_vits16"].gpu_h


def test_the_published_runs_take_the_published_gpu_hours(config: Config) -> None:
    stages = by_name(config)
    # 17 d 16 h on 12 GPUs, and 17 d 10 h on 8; the rates are rounded to whole tiles
    assert stages["pretrain dino_vits16"].gpu_h == pytest.approx((17 * 24 + 16) * 12, rel=0.01)
    assert stages["pretrain mae_vitl16"].gpu_h == pytest.approx((17 * 24 + 10) * 8, rel=0.01)


def test_jobs_bytes_and_files_by_hand(config: Config) -> None:
    stages = by_name(config)
    encoders = {"dino_vits16": 7, "mae_vitl16": 7, "tres50": 1, "res50": 1, "vits16": 1}
    assert [stages[name].jobs for name in ("tissue", "tiles", "schedule")] == [1024, 1024, 50]  # as tests/test_paper_scale.py counts
    assert sum(stages[f"features {name}"].jobs for name in encoders) == 64 * 17
    assert sum(stages[f"gma {name}"].jobs for name in encoders) == 6 * 17
    assert stages["tiles"].tiles == pytest.approx(3.25e9)
    assert stages["tiles"].disk_b == pytest.approx(100e12 + 3.25e9 * (36 + 40))
    assert stages["tiles"].files == 3 * 423_563 + 2 * 1024  # tar, index and sidecar a slide; table and index a shard
    assert stages["schedule"].disk_b == 50 * 65_000_000 * 16
    tiles = 7187 * 3.25e9 / 423_563
    assert stages["features dino_vits16"].disk_b == pytest.approx(7 * tiles * (384 * 4 + 16))
    assert stages["features mae_vitl16"].disk_b == pytest.approx(7 * tiles * (1024 * 4 + 16))
    assert stages["features res50"].disk_b == pytest.approx(tiles * (2048 * 4 + 16))
    assert stages["gma res50"].memory_b == pytest.approx(2000 * 7673 * 2048 * 4, rel=1e-4)


def test_tables_and_the_catalog_are_taken_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    slides = pd.DataFrame({"slide": [f"s{i}" for i in range(20)], "path": "x", "patient": "p", "organ": "lung"})
    slides.to_csv("slides.csv", index=False)
    for name, some in {"a": slides[:6], "b": slides[4:12]}.items():
        some.assign(target=[i % 2 for i in range(len(some))])[["slide", "target"]].to_csv(f"{name}.csv", index=False)
    task = {"origin": "here", "disease": "none", "kind": "detection"}
    merged = values("demo.yaml") | {"slides": "slides.csv", "tasks": {name: {"table": f"{name}.csv", **task} for name in "ab"}}
    merged["cohort"]["exclude_patients"] = None
    config = load_config(merged)
    found = read_cohort(config, 0)
    assert (found.slides, found.tasks, found.task_slides) == (20, {"a": 6, "b": 8}, 12)
    Path("results/catalog").mkdir(parents=True)
    made = pd.DataFrame({"status": ["ok", "ok", "failed"], "tiles": [100, 300, 0], "bytes": [1e6, 5e6, 0]})
    made.to_parquet("results/catalog/slides.parquet")
    found = read_cohort(config, 0)
    assert (found.tiles_a_slide, found.tile_b) == (200, 15_000)
    assert found.known == f"the means in results{os.sep}catalog{os.sep}slides.parquet"
    Path("b.csv").unlink()
    found = read_cohort(config, 9)
    assert (found.slides, found.tasks, found.unread) == (9, {"a": 6, "b": 1198}, ("b",))  # before there is a table: the published mean


def test_no_tasks_runs_or_slides_cost_nothing(config: Config) -> None:
    features = config.features.model_copy(update={"encoders": {}})
    pretrain = config.pretrain.model_copy(update={"runs": {}})
    nothing = config.model_copy(update={"tasks": {}, "features": features, "pretrain": pretrain})
    stages = by_name(nothing, Cohort(0, {}, 0, 7673.0, 30_800.0, ""))
    assert list(stages) == ["tissue", "tiles", "schedule", "quality"]
    assert all(stage.core_h == stage.gpu_h == stage.disk_b == stage.tiles == 0 for stage in stages.values())


def test_forward_passes_by_hand(config: Config) -> None:
    # 20 splits of 80 %, 50 epochs: a training tile is passed forward and, for twice the cost, backward; any other forward alone
    assert passes(config) == 20 * config.gma.replicas * 50 * (0.8 * 3 + 0.2)


def test_a_catalog_without_tiles_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results/catalog").mkdir(parents=True)
    pd.DataFrame({"status": ["failed"], "tiles": [0], "bytes": [0]}).to_parquet("results/catalog/slides.parquet")
    found = read_cohort(config, 10)
    assert (found.tiles_a_slide, found.known) == (pytest.approx(3.25e9 / 423_563, rel=0.01), "the published means")
