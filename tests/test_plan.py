"""The plan of the published experiment against numbers worked out by hand, and what it says of a profile that will not do."""

import os
from pathlib import Path

import pandas as pd
import pytest
import yaml

from microtome import costs
from microtome.bags import SHARE
from microtome.config import Config, load_config
from microtome.errors import UserError
from microtome.plan import elapsed_h, hours_a_job, plan, row, text, waves
from microtome.project import Profile
from microtome.recipes import Mae
from microtome.stages import Cohort, Stage, read_cohort, stages_of
from tests.checkout import ROOT
from tests.test_config import values

TASKS = {"mshs_breast": 1998, "mshs_ibd": 1441, "mshs_er": 2000, "mshs_egfr": 294, "mskcc_egfr": 1000, "mskcc_io": 454}
PUBLISHED = Cohort(423_563, TASKS, sum(TASKS.values()), 3.25e9 / 423_563, 100e12 / 3.25e9, "the published means")


@pytest.fixture
def config() -> Config:
    return load_config(values("paper.yaml"))


@pytest.fixture
def slurm() -> Profile:
    return Profile(ROOT / "profiles" / "slurm")


def by_name(config: Config, cohort: Cohort = PUBLISHED) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages_of(config, cohort)}


def test_the_published_runs_take_the_published_gpu_hours(config: Config) -> None:
    stages = by_name(config)
    # 17 d 16 h on 12 GPUs, and 17 d 10 h on 8; the rates are rounded to whole tiles
    assert stages["pretrain dino_vits16"].gpu_h == pytest.approx((17 * 24 + 16) * 12, rel=0.01)
    assert stages["pretrain mae_vitl16"].gpu_h == pytest.approx((17 * 24 + 10) * 8, rel=0.01)


def test_jobs_bytes_and_files_by_hand(config: Config) -> None:
    stages = by_name(config)
    encoders = {"dino_vits16": 7, "mae_vitl16": 7, "tres50": 1, "res50": 1}
    assert [stages[name].jobs for name in ("tissue", "tiles", "schedule")] == [1024, 1024, 50]  # as tests/test_paper_scale.py counts
    assert sum(stages[f"features {name}"].jobs for name in encoders) == 64 * 16
    assert sum(stages[f"gma {name}"].jobs for name in encoders) == 6 * 16
    assert stages["tiles"].tiles == pytest.approx(3.25e9)
    assert stages["tiles"].disk_b == pytest.approx(100e12 + 3.25e9 * (36 + 40))
    assert stages["tiles"].files == 3 * 423_563 + 2 * 1024  # tar, index and sidecar a slide; table and index a shard
    assert stages["schedule"].disk_b == 50 * 65_000_000 * 16
    tiles = 7187 * 3.25e9 / 423_563
    assert stages["features dino_vits16"].disk_b == pytest.approx(7 * tiles * (384 * 4 + 16))
    assert stages["features mae_vitl16"].disk_b == pytest.approx(7 * tiles * (1024 * 4 + 16))
    assert stages["features res50"].disk_b == pytest.approx(tiles * (2048 * 4 + 16))
    assert stages["gma res50"].memory_b == pytest.approx(2000 * 7673 * 2048 * 4, rel=1e-4)


def test_sizes_of_models_are_the_published(config: Config) -> None:
    small, large = costs.vit("vit_small_patch16_224"), costs.vit("vit_large_patch16_224")
    assert small is not None
    assert large is not None
    assert small.weights == pytest.approx(21.7e6, rel=0.02)
    assert large.weights == pytest.approx(303.3e6, rel=0.02)
    assert small.gmac(224) == pytest.approx(4.6, rel=0.02)  # Touvron et al. 2021
    assert large.gmac(224) == pytest.approx(61.6, rel=0.02)  # He et al. 2022
    dino, mae = config.pretrain.recipes["dino"], config.pretrain.recipes["mae"]
    assert costs.tiles_s_gpu(costs.train_gmac(dino, "vit_small_patch16_224"), "fp32") == pytest.approx(89)
    assert isinstance(mae, Mae)
    assert costs.tiles_s_gpu(costs.train_gmac(mae, "vit_large_patch16_224"), "bf16") == pytest.approx(270)
    head = 384 * 2048 + 2048**2 + 2048 * 256 + 256 * 65536
    assert costs.state_b(dino, "vit_small_patch16_224") == pytest.approx(16 * (21.7e6 + head), rel=0.02)


def test_queueing_by_hand(config: Config, slurm: Profile) -> None:
    stages = by_name(config)
    assert waves(stages["tiles"], slurm) == 6  # 1,024 jobs, 200 at once
    assert hours_a_job(stages["tiles"], slurm) == pytest.approx(600e12 / 5e9 / 3600 * 200 / 1024)  # storage is the limit, not 16 cores
    dino = stages["pretrain dino_vits16"]
    assert waves(dino, slurm) == 25
    assert elapsed_h(dino, slurm) == pytest.approx(1.625e9 / (89 * 24) / 3600)  # 3 nodes x 8 GPUs
    line = row(dino, slurm, 8)
    assert (line["GPU h"], line["node h"], line["one job"], line["limit"]) == ("5,072", "634", "3 x 8 GPUs", "48")


def test_the_text_says_what_it_assumes_and_what_will_not_do(config: Config, slurm: Profile) -> None:
    printed = text(config, PUBLISHED, slurm)
    assert "Plan for 423,563 slides" in printed
    assert "7,673 tiles a slide, 30.8 kB a tile: the published means." in printed
    assert "gma res50: features of the largest task, 125.7 GB, do not fit into `mem_mb` of gma" in printed
    assert "209.5 GB would hold them" in printed
    assert "gma dino_vits16: features" not in printed  # 23.6 GB of 64
    assert costs.HELD_SHARE == SHARE
    assert max(map(len, printed.splitlines())) < 180
    local = text(config, PUBLISHED, Profile(ROOT / "profiles" / "local"))
    assert "pretrain dino_vits16: about 5,072 GPU hours, and rule pretrain has no GPU" in local


def test_a_limit_that_is_too_short(config: Config, tmp_path: Path) -> None:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    profile["set-resources"]["tiles"]["runtime"] = 60
    profile["set-resources"]["pretrain"]["runtime"] = "400 * attempt"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(profile))
    printed = text(config, PUBLISHED, Profile(tmp_path))
    assert "tiles: 7 h a job, limit 1 h: raise `runtime` of tiles, or have more shards." in printed
    assert "pretrain dino_vits16: 8 h a pseudo-epoch, limit 7 h: requeued" in printed


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
    assert "b: no table yet, 1,198 slides each (the published mean)." in text(config, found, Profile(ROOT / "profiles" / "slurm"))


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected how many slides"):
        plan(slides=-1)
    with pytest.raises(
        UserError, match=r"config/config.yaml: No such file or directory. Expected a YAML file; run in the project's folder"
    ):
        plan()
    (tmp_path / "config.yaml").write_text("default-resources:\n  mem_mb: lots\n")
    with pytest.raises(UserError, match="'lots' where a number is expected"):
        Profile(tmp_path).needs("tiles")
    for wrong, message in {"- a\n": "expected keys and values, found list", "a: [": "no YAML"}.items():
        (tmp_path / "config.yaml").write_text(wrong)
        with pytest.raises(UserError, match=message):
            Profile(tmp_path)
