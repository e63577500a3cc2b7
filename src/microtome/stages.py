"""The stages of a configuration and what each costs: jobs, hours of GPUs and cores, bytes and files, by the rates of `costs.py`.

Tiles a slide and bytes a tile are the published means until there is a catalog, whose own are taken then.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from microtome import costs
from microtome.cohort import read_slides, select
from microtome.config import Config
from microtome.encoder_config import RunEncoder
from microtome.tasks import read_task

TASK_SLIDES = round(7187 / 6)  # the published mean, for a task whose table is not there yet
CATALOG = Path("results/catalog/slides.parquet")


@dataclass(frozen=True)
class Cohort:
    """What there is to work on: `tasks` are slides a task, `task_slides` the slides that are in any."""

    slides: int
    tasks: dict[str, int]
    task_slides: int
    tiles_a_slide: float
    tile_b: float
    known: str  # where the tiles a slide and the bytes a tile come from
    unread: tuple[str, ...] = ()  # tasks whose table is not there yet: `TASK_SLIDES` each


@dataclass(frozen=True)
class Stage:
    """One line of the plan: `jobs`, of which `chain` must follow each other; hours and bytes are those of all its jobs together."""

    name: str
    rule: str
    jobs: int
    slides: int
    tiles: float
    core_h: float
    gpu_h: float
    disk_b: float
    files: int
    chain: int = 1
    memory_b: float = 0  # of the largest job, where that is known
    read_b: float = 0  # from the slides


def read_cohort(config: Config, slides: int) -> Cohort:
    """From the tables, and the catalog where there is one; `slides`, where it is not 0, stands for a slide table that is not there yet."""
    used = slides or len(select(read_slides(config.slides), config.cohort)[0])
    tables = {name: task.table for name, task in config.tasks.items()}
    named = {name: set(read_task(table)["slide"]) for name, table in tables.items() if table.is_file()}
    unread = tuple(name for name in tables if name not in named)
    tasks = {name: len(named[name]) if name in named else TASK_SLIDES for name in tables}
    either = len(set().union(*named.values())) + TASK_SLIDES * len(unread)
    made = pd.DataFrame()
    if CATALOG.is_file():
        made = pd.read_parquet(CATALOG, columns=["status", "tiles", "bytes"]).query("status == 'ok' and tiles > 0")
    if made.empty:
        return Cohort(used, tasks, either, costs.PUBLISHED_TILES_A_SLIDE, costs.PUBLISHED_TILE_B, "the published means", unread)
    tile_b = made["bytes"].sum() / made["tiles"].sum()
    return Cohort(used, tasks, either, made["tiles"].mean(), tile_b, f"the means in {CATALOG}", unread)


def slide_stages(config: Config, cohort: Cohort) -> list[Stage]:
    """Tissue, tiles and schedules."""
    tiles, shards = cohort.slides * cohort.tiles_a_slide, config.cohort.shards
    area_gpx0 = tiles * (config.grid.tile_px * 2) ** 2 / costs.TISSUE_SHARE / 1e9  # ASSUME: slides at half the tiles' µm/px
    schedules = max((run.pseudo_epochs for run in config.pretrain.runs.values()), default=0)
    rows = schedules * config.schedule.tiles
    tissue_s, tiles_s, schedule_s = area_gpx0 * costs.TISSUE_S_GPX0, tiles / costs.TILES_S_CORE, rows * costs.SCHEDULE_S_ROW
    tiles_b = tiles * (cohort.tile_b + costs.INDEX_B)
    shard_files = 3 * cohort.slides + 2 * shards
    slides_b, schedule_b = cohort.slides * costs.PUBLISHED_SLIDE_B, rows * costs.SCHEDULE_B
    return [
        Stage("tissue", "tissue", shards, cohort.slides, 0, tissue_s / 3600, 0, cohort.slides * costs.TISSUE_FILES_B, shard_files),
        Stage("tiles", "tiles", shards, cohort.slides, tiles, tiles_s / 3600, 0, tiles_b, shard_files, read_b=slides_b),
        Stage("schedule", "schedule", schedules, cohort.slides, rows, schedule_s / 3600, 0, schedule_b, schedules),
    ]


def pretrain_stages(config: Config) -> list[Stage]:
    """A line a run."""
    stages = []
    for name, each in config.pretrain.runs.items():
        recipe = config.pretrain.recipes[each.recipe]
        tiles = each.pseudo_epochs * config.schedule.tiles
        gpu_h = tiles / costs.tiles_s_gpu(costs.train_gmac(recipe, each.model), each.precision) / 3600
        files_b = each.pseudo_epochs * (costs.state_b(recipe, each.model) + 4 * costs.encoder_weights(each.model))
        jobs = each.pseudo_epochs
        stages.append(Stage(f"pretrain {name}", "pretrain", jobs, 0, tiles, 0, gpu_h, files_b, 3 * jobs, chain=jobs))
    return stages


def feature_stages(config: Config, cohort: Cohort) -> list[Stage]:
    """Features and aggregators, a line an encoder of the configuration; the checkpoints of a run are one."""
    models = {name: each.model for name, each in config.pretrain.runs.items()}
    tiles = cohort.task_slides * cohort.tiles_a_slide
    features, gma = [], []
    for name, encoder in config.features.encoders.items():
        model = costs.model_of(encoder, models)
        count, dim = len(getattr(encoder, "pseudo_epochs", [0])), costs.encoder_dim(encoder, model)
        number_b = 4 if config.features.dtype == "float32" else 2
        gpu_h = count * tiles / costs.tiles_s_gpu(costs.encode_gmac(encoder, model), config.features.precision) / 3600
        disk_b = count * tiles * (dim * number_b + costs.COORDS_B)
        files = count * (cohort.task_slides + config.features.shards)
        shards = count * min(config.features.shards, cohort.task_slides)
        features.append(Stage(f"features {name}", "features", shards, cohort.task_slides, count * tiles, 0, gpu_h, disk_b, files))
        bags = max(cohort.tasks.values(), default=0) * cohort.tiles_a_slide * dim * number_b
        jobs, bag_tiles = count * len(cohort.tasks), count * sum(cohort.tasks.values()) * cohort.tiles_a_slide
        gma_h = bag_tiles * passes(config) / costs.tiles_s_gpu(costs.gma_gmac(dim, config.gma), "fp32") / 3600
        gma.append(
            Stage(
                f"gma {name}",
                "gma",
                jobs,
                sum(cohort.tasks.values()),
                bag_tiles,
                0,
                gma_h,
                bag_tiles * costs.ATTENTION_B,
                4 * jobs,
                memory_b=bags,
            )
        )
    return features + gma


def quality_stage(config: Config) -> Stage:
    """Every checkpoint, encoder and null on the sample of tiles, a line."""
    models = {name: each.model for name, each in config.pretrain.runs.items()}
    jobs, gpu_h, disk_b = 0, 0.0, 0.0
    for encoder in config.features.encoders.values():
        model = costs.model_of(encoder, models)
        count = len(encoder.pseudo_epochs) + 1 if isinstance(encoder, RunEncoder) else 1  # the null of a run
        jobs += count
        tiles = count * config.quality.tiles
        gpu_h += tiles / costs.tiles_s_gpu(costs.encode_gmac(encoder, model), config.features.precision) / 3600
        disk_b += tiles * costs.encoder_dim(encoder, model) * 4
    return Stage("quality", "quality", jobs, 0, jobs * config.quality.tiles, 0, gpu_h, disk_b, 2 * jobs)


def passes(config: Config) -> float:
    """How many forward passes a tile of a task's slides costs one encoder: every split and replica trains, and validates each epoch."""
    trained = config.splits.train_fraction
    return config.splits.repeats * config.gma.replicas * config.gma.epochs * (3 * trained + (1 - trained))


def stages_of(config: Config, cohort: Cohort) -> list[Stage]:
    """All of the plan's lines, in the order of the data's way."""
    return [*slide_stages(config, cohort), *pretrain_stages(config), *feature_stages(config, cohort), quality_stage(config)]
