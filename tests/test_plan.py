"""The plan of the published experiment against numbers worked out by hand, and what it says of a profile that will not do."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from microtome import costs
from microtome.bags import HOST_SHARE
from microtome.config import Config, load_config
from microtome.errors import UserError
from microtome.plan import elapsed_h, hours_a_job, plan, repeated, row, small_shards, text, waves
from microtome.project import Profile
from tests.checkout import ROOT
from tests.test_config import values
from tests.test_stages import PUBLISHED, by_name


@pytest.fixture
def config() -> Config:
    return load_config(values("paper.yaml"))


@pytest.fixture
def slurm() -> Profile:
    return Profile(ROOT / "profiles" / "slurm" / "config.yaml")


def test_queueing_by_hand(config: Config, slurm: Profile) -> None:
    stages = by_name(config)
    assert waves(stages["tiles"], slurm) == 6  # 1,024 jobs, 200 at once
    assert hours_a_job(stages["tiles"], slurm) == pytest.approx(600e12 / 5e9 / 3600 * 200 / 1024)  # storage is the limit, not 16 cores
    dino = stages["pretrain dino_vits16"]
    assert waves(dino, slurm) == 25
    assert elapsed_h(dino, slurm) == pytest.approx(1.625e9 / (89 * 24) / 3600)  # 3 nodes x 8 GPUs
    line = row(dino, slurm, 8)
    assert (line["GPU h"], line["node h"], line["one job"], line["limit"]) == ("5,072", "634", "3 x 8 GPUs, 128 cores, 128 GB", "48")


def test_the_text_says_what_it_assumes_and_what_will_not_do(config: Config, slurm: Profile) -> None:
    printed = text(config, PUBLISHED, slurm)
    assert "Plan for 423,563 slides" in printed
    assert "7,673 tiles a slide, 30.8 kB a tile: the published means." in printed
    assert "gma res50: features of the largest task, 125.7 GB, do not fit into `mem_mb` of gma" in printed
    assert "209.5 GB would hold them" in printed
    assert "gma dino_vits16: features" not in printed  # 23.6 GB of 64
    assert costs.HELD_SHARE == HOST_SHARE
    assert max(map(len, printed.splitlines())) < 180
    jobs = sum(stage.jobs for stage in by_name(config).values())
    assert f"Jobs     {jobs:,}, and some small ones" in printed
    local = text(config, PUBLISHED, Profile(ROOT / "profiles" / "local" / "config.yaml"))
    assert "  pretrain: about 8,415 GPU hours, and the rule has no GPU in" in local
    assert local.count("and the rule has no GPU in") == 4, "a line a rule"
    assert "On this machine these rules take its GPU, where it has one, a job at a time" in local
    assert "? (no GPU) for the longest run" in local
    assert "On this machine" not in printed


def test_a_task_without_a_table_is_said(config: Config, slurm: Profile) -> None:
    printed = text(config, dataclasses.replace(PUBLISHED, unread=("mshs_ibd",)), slurm)
    assert "mshs_ibd: no table yet, 1,198 slides each (the published mean)." in printed


def test_a_limit_that_is_too_short(config: Config, tmp_path: Path) -> None:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    profile["set-resources"]["tiles"]["runtime"] = 60
    profile["set-resources"]["pretrain"]["runtime"] = "400 * attempt"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(profile))
    printed = text(config, PUBLISHED, Profile(tmp_path / "config.yaml"))
    assert "tiles: 7 h a job, limit 1 h: raise `runtime` of tiles, or have more shards." in printed
    assert "pretrain dino_vits16: 8 h a pseudo-epoch, limit 7 h: requeued" in printed


def test_a_pseudo_epoch_of_far_more_tiles_than_there_are(config: Config, slurm: Profile) -> None:
    few = dataclasses.replace(PUBLISHED, slides=300)  # a fifth of 300 x 7,672.98 tiles is 460,379; 65 M are 141.2 times as many
    said = (
        "schedule.tiles 65,000,000: a pseudo-epoch's slides (one part of 5) are expected to have about 460,000: each tile would be repeated"
    )
    assert f"{said} 141 times. Set it to 460,000 or less." in text(config, few, slurm)
    (said,) = repeated(config, dataclasses.replace(PUBLISHED, slides=1, tiles_a_slide=6000.0))
    runs = "and global_batch of mae_vitl16 (1,440) with it; or set these runs and their encoders to null."
    assert said.endswith(f"Set it to 1,200 or less, {runs}"), "no batch may be larger than a pseudo-epoch"
    for slides in (423_563, 14_200):  # 0.1 and 2.98 times
        assert not repeated(config, dataclasses.replace(PUBLISHED, slides=slides))
    assert not repeated(config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"runs": {}})}), few)


def test_shards_of_a_few_slides(config: Config, slurm: Profile) -> None:
    few = dataclasses.replace(PUBLISHED, slides=900)
    assert "cohort.shards 1024: of 900 slides, 3 would do. Choose before the first run" in text(config, few, slurm)
    for shards, slides, said in ((64, 640, 0), (64, 639, 1), (4, 1, 0), (5, 1, 1)):
        chosen = config.model_copy(update={"cohort": config.cohort.model_copy(update={"shards": shards})})
        assert len(small_shards(chosen, dataclasses.replace(PUBLISHED, slides=slides))) == said


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="expected how many slides"):
        plan(slides=-1)
    with pytest.raises(UserError, match=r"config/config.yaml: No such file .* Expected a YAML file; run in the project's folder"):
        plan()
