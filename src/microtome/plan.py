"""What a configuration asks of a cluster before anything runs: jobs, queueing, GPU hours, bytes and files, stage by stage.

    make plan CONFIG="config/paper.yaml"       # slides, tasks and resources as they stand in the tables and the profile
    make plan CONFIG="config/paper.yaml" SLIDES=423563      # before there are tables

Estimates, from the stages of `stages.py` and the rates of `costs.py`; the text says what they assume.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from microtome import costs
from microtome.command_line import run
from microtome.config import Config
from microtome.errors import UserError
from microtome.findings import some
from microtome.project import Profile, read_config
from microtome.stages import TASK_SLIDES, Cohort, Stage, read_cohort, stages_of

STORAGE_B_S = 5e9  # ASSUME: what the archive of slides gives all jobs together
NODE_CORES = 64  # ASSUME: where node hours are given for jobs without a GPU
NO_GPU = "no GPU"  # where hours would stand
SLIDES_A_SHARD, FEW_SLIDES, FEW_SHARDS = 400, 10, 4  # what config.yaml advises; what is too few, unless there are few shards anyway
MANY_TIMES = 3  # that a pseudo-epoch may hold a tile: what a slide has is a guess before there is a catalog
OUTPUTS_A_JOB = 3  # about: outputs that Snakemake keeps a note of, beside a log and a benchmark


def hours_a_job(stage: Stage, profile: Profile) -> float:
    """Of one job with its profile's resources, beside as many as run at once; inf where it needs a GPU and the profile gives none."""
    if not stage.jobs:
        return 0.0
    needs = profile.needs(stage.rule)
    gpus = needs.gpus * max(needs.nodes, 1)
    if stage.gpu_h and not gpus:
        return math.inf
    reading_h = stage.read_b / STORAGE_B_S / 3600 * at_once(stage, profile)
    return max(stage.core_h / needs.threads + (stage.gpu_h / gpus if gpus else 0), reading_h) / stage.jobs


def elapsed_h(stage: Stage, profile: Profile) -> float:
    """From its first job to its last, if nothing waits for others' jobs."""
    return waves(stage, profile) * hours_a_job(stage, profile)


def waves(stage: Stage, profile: Profile) -> int:
    """How often all jobs that may run at once must run."""
    side_by_side = at_once(stage, profile)
    return math.ceil(stage.jobs / side_by_side) if side_by_side else 0


def node_hours(stage: Stage, node_gpus: int) -> float:
    """With all of a node's GPUs, or all of its `NODE_CORES`, at work."""
    return stage.gpu_h / node_gpus if stage.gpu_h else stage.core_h / NODE_CORES


def at_once(stage: Stage, profile: Profile) -> int:
    """Jobs of a stage side by side, as far as dependencies and the profile allow."""
    free = profile.jobs or max(1, (os.cpu_count() or 1) // profile.needs(stage.rule).threads)
    return min(stage.jobs // stage.chain, free) if stage.jobs else 0


def row(stage: Stage, profile: Profile, node_gpus: int) -> dict[str, str]:
    """The stage's line as text."""
    needs, side_by_side = profile.needs(stage.rule), at_once(stage, profile)
    cores = needs.threads * needs.processes if needs.nodes > 1 else needs.threads
    asks = [f"{needs.gpus} GPU{'s' * (needs.gpus > 1)}"] * bool(needs.gpus) + [plural(cores, "core")]
    asks += [f"{needs.mem_mb / 1000:.0f} GB"] * bool(needs.mem_mb)
    return {
        "stage": stage.name,
        "jobs": f"{stage.jobs:,}",
        "one job": f"{needs.nodes} x " * (needs.nodes > 1) + ", ".join(asks),
        "at once": f"{side_by_side:,}",
        "waves": f"{waves(stage, profile):,}",
        "h a job": _hours(hours_a_job(stage, profile)),
        "limit": f"{needs.runtime_min / 60:.0f}" if needs.runtime_min else "-",
        "slides": f"{stage.slides:,}" if stage.slides else "-",
        "tiles": _tiles(stage.tiles) if stage.tiles else "-",
        "GPU h": _hours(stage.gpu_h) if stage.gpu_h else "-",
        "node h": _hours(node_hours(stage, node_gpus)),
        "disk": size(stage.disk_b) if stage.disk_b else "-",
        "files": f"{stage.files:,}",
    }


def _hours(hours: float) -> str:
    if math.isinf(hours):
        return NO_GPU
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _days(days: float) -> str:
    return f"? ({NO_GPU})" if math.isinf(days) else f"{days:.1f}"


def plural(count: int, what: str) -> str:
    """ "1 core", "2 cores"."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def _tiles(tiles: float) -> str:
    return f"{tiles / 1e9:,.2f} G" if tiles >= 1e9 else f"{tiles / 1e6:,.1f} M"


def size(size_b: float) -> str:
    """Bytes in the unit that fits."""
    unit = next(unit for unit in ("TB", "GB", "MB", "kB") if size_b >= UNITS[unit] or unit == "kB")
    return f"{size_b / UNITS[unit]:,.1f} {unit}"


UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


def warnings(stages: Sequence[Stage], profile: Profile) -> list[str]:
    """What will not go as the profile stands."""
    found = []
    for stage in stages:
        needs = profile.needs(stage.rule)
        hours, limit_h = hours_a_job(stage, profile), needs.runtime_min / 60
        if limit_h and limit_h < hours < math.inf and stage.rule == "pretrain":
            found.append(
                f"{stage.name}: {hours:.0f} h a pseudo-epoch, limit {limit_h:.0f} h: requeued; it goes on from its last saved step."
            )
        elif limit_h and limit_h < hours < math.inf:
            found.append(f"{stage.name}: {hours:.0f} h a job, limit {limit_h:.0f} h: raise `runtime` of {stage.rule}, or have more shards.")
        if needs.mem_mb and stage.memory_b > costs.HELD_SHARE * needs.mem_mb * 1e6:
            held = f"{size(stage.memory_b / costs.HELD_SHARE)} would hold them; float16 halves them."
            too_large = f"features of the largest task, {size(stage.memory_b)}, do not fit into `mem_mb` of {stage.rule}"
            found.append(f"{stage.name}: {too_large}: read from files at every use. {held}")
    return found


def without_gpu(stages: Sequence[Stage], profile: Profile) -> list[str]:
    """The rules to which the profile gives no GPU, though they need one."""
    hours: dict[str, float] = {}
    for stage in stages:
        if math.isinf(hours_a_job(stage, profile)):
            hours[stage.rule] = hours.get(stage.rule, 0) + stage.gpu_h
    found = [f"{rule}: about {_hours(gpu_h)} GPU hours, and the rule has no GPU in {profile.file}." for rule, gpu_h in hours.items()]
    here = ["On this machine these rules take its GPU, where it has one, a job at a time; hours on its cores are not estimated."]
    return found + here * bool(found and not profile.slurm)


def uneven(config: Config, profile: Profile) -> list[str]:
    """The runs whose global batch the profile's processes cannot share equally, which stops them."""
    needs = profile.needs("pretrain")
    processes = max(needs.nodes, 1) * needs.processes
    found = {name: each.global_batch for name, each in config.pretrain.runs.items() if each.global_batch % processes}
    return [
        f"pretrain {name}: a global batch of {batch:,} cannot be shared equally by {processes} processes." for name, batch in found.items()
    ]


def small_shards(config: Config, cohort: Cohort) -> list[str]:
    """Whether shards have so few slides that starting their jobs takes longer than the slides."""
    shards, enough = config.cohort.shards, -(-cohort.slides // SLIDES_A_SHARD)
    if shards <= max(FEW_SHARDS, cohort.slides / FEW_SLIDES):
        return []
    return [
        f"cohort.shards {shards}: of {plural(cohort.slides, 'slide')}, {enough} would do. Choose before the first run: slides move with it."
    ]


def repeated(config: Config, cohort: Cohort) -> list[str]:
    """Whether a pseudo-epoch has far more tiles than its slides are expected to have, so that each comes again and again."""
    schedule = config.schedule
    expected = cohort.slides * cohort.tiles_a_slide / schedule.slide_parts
    times = schedule.tiles / expected
    if not config.pretrain.runs or times < MANY_TIMES:
        return []
    have_tiles = f"{float(f'{expected:.2g}'):,.0f}"
    have = f"a pseudo-epoch's slides (one part of {schedule.slide_parts}) are expected to have about {have_tiles}"
    too_large = [f"{name} ({run.global_batch:,})" for name, run in config.pretrain.runs.items() if run.global_batch > expected]
    batches = f", and global_batch of {', '.join(too_large)} with it; or set these runs and their encoders to null" if too_large else ""
    said = f"schedule.tiles {schedule.tiles:,}: {have}: each tile would be repeated {times:,.0f} times."
    return [f"{said} Set it to {have_tiles} or less{batches}."]


def text(config: Config, cohort: Cohort, profile: Profile) -> str:
    """The whole plan."""
    stages, node_gpus = stages_of(config, cohort), max(profile.needs("pretrain").gpus, 1)
    rows = [row(stage, profile, node_gpus) for stage in stages]
    files = needed(stages)[1]
    head = f"Plan for {plural(cohort.slides, 'slide')} with {profile.file}. Estimates, not promises: what they assume stands below."
    wrong = small_shards(config, cohort) + repeated(config, cohort) + uneven(config, profile)
    wrong += without_gpu(stages, profile) + warnings(stages, profile)
    parts = [head, table(rows), "\n".join(totals(stages, files, profile)), "\n".join(storage(cohort, stages, profile))]
    parts += ["As configuration and profile stand:\n" + "\n".join(f"  {line}" for line in wrong)] * bool(wrong)
    return "\n\n".join([*parts, "Assumed:\n" + "\n".join(f"  {line}" for line in assumptions(config, cohort))]) + "\n"


def needed(stages: Sequence[Stage]) -> tuple[float, int]:
    """The bytes and files that some stages leave, logs, benchmarks and Snakemake's notes among them."""
    return sum(stage.disk_b for stage in stages), sum(stage.files + (OUTPUTS_A_JOB + 2) * stage.jobs for stage in stages)


def table(rows: Sequence[dict[str, str]]) -> str:
    """Rows of the same keys in columns, the first flush left."""
    widths = {key: max(len(key), *(len(line[key]) for line in rows)) for key in rows[0]}
    lines = [dict(zip(widths, widths, strict=True)), *rows]
    left = {"stage", "one job"}
    return "\n".join("  ".join(f"{line[key]:{'<' if key in left else '>'}{widths[key]}}" for key in widths).rstrip() for line in lines)


def totals(stages: Sequence[Stage], files: int, profile: Profile) -> list[str]:
    """Jobs, disk, files and hours of everything, and how long it takes."""
    node_gpus = max(profile.needs("pretrain").gpus, 1)
    days = [(stage.rule, elapsed_h(stage, profile) / 24) for stage in stages]
    slides_d = sum(day for rule, day in days if rule in ("tissue", "tiles", "schedule"))
    run_d = max((day for rule, day in days if rule == "pretrain"), default=0.0)
    after_d = sum(day for rule, day in days if rule in ("features", "gma"))
    disk_b, gpu_h, core_h = (sum(values) for values in zip(*((s.disk_b, s.gpu_h, s.core_h) for s in stages), strict=True))
    return [
        f"Jobs     {sum(stage.jobs for stage in stages):,}, and some small ones: cohort, catalog, splits, figures, tables, report.",
        f"Disk     {size(disk_b)}; the largest: {largest(stages)}.",
        f"Files    {files:,} (inodes), with logs, benchmarks and Snakemake's notes.",
        f"Hours    {gpu_h:,.0f} GPU hours ({gpu_h / node_gpus:,.0f} of nodes with {plural(node_gpus, 'GPU')}), {core_h:,.0f} core hours.",
        f"Elapsed  {_days(slides_d)} days to the schedules, {_days(run_d)} for the longest run, {_days(after_d)} for features and"
        " aggregators (most of it while training goes on).",
    ]


def largest(stages: Sequence[Stage], shown: int = 3) -> str:
    """The stages that leave most bytes, and how many."""
    by_size = sorted(stages, key=lambda stage: -stage.disk_b)
    return ", ".join(f"{stage.name} {size(stage.disk_b)}" for stage in by_size[:shown])


def storage(cohort: Cohort, stages: Sequence[Stage], profile: Profile) -> list[str]:
    """What is read, and how fast."""
    needs = profile.needs("pretrain")
    gpus = needs.gpus * max(needs.nodes, 1)
    slides_b = sum(stage.read_b for stage in stages)
    reading_h = slides_b / STORAGE_B_S / 3600
    lines = [f"Reading  slides: about {size(slides_b)}, once: {reading_h:,.0f} h at {size(STORAGE_B_S)}/s, whatever the cores could do."]
    for stage in stages:
        if stage.rule == "pretrain" and gpus:
            tiles_s = stage.tiles * gpus / stage.gpu_h / 3600
            lines.append(
                f"         {stage.name}: {tiles_s:,.0f} tiles/s from random places, {size(tiles_s * cohort.tile_b)}/s on {gpus} GPUs."
            )
    return lines


def assumptions(config: Config, cohort: Cohort) -> list[str]:
    """What the numbers rest on."""
    runs = {name: each.model for name, each in config.pretrain.runs.items()}
    models = {*runs.values(), *(costs.model_of(encoder, runs) for encoder in config.features.encoders.values())}
    guessed = sorted(model for model in models if costs.is_guess(model))
    return [
        f"{cohort.tiles_a_slide:,.0f} tiles a slide, {cohort.tile_b / 1e3:.1f} kB a tile: {cohort.known}.",
        f"{plural(len(cohort.tasks), 'task')}, {plural(cohort.task_slides, 'slide')} in any of them."
        + f" {some(list(cohort.unread))}: no table yet, {TASK_SLIDES:,} slides each (the published mean)." * bool(cohort.unread),
        f"A100s at what the published runs did: DINO ViT-S/16 {costs.DINO_TILES_S_GPU:.0f} tiles/s a GPU (fp32), MAE ViT-L/16"
        f" {costs.MAE_TILES_S_GPU:.0f} (fp16); other models and the features by their multiplications.",
        f"A core cuts {costs.TILES_S_CORE:,.0f} tiles/s (Philips-like, `make bench`); slides have half the tiles' µm/px,"
        f" {costs.PUBLISHED_SLIDE_B / 1e9:.1f} GB and a third of them tissue (published).",
        "Nothing waits in the queue for others' jobs; `waves`: how often all jobs that may run at once run.",
        f"node h: all GPUs of a node at work; {NODE_CORES} cores where a stage needs none.",
        *[f"{model}: its size is not in its name; taken for a ViT-L." for model in guessed],
    ]


def plan(configfile: list[Path] = [], profile: str = "slurm", slides: int = 0) -> None:  # noqa: B006
    """Print what the configuration with its overlays asks of a profile's cluster; for `slides` slides where there are no tables yet."""
    if slides < 0:
        raise UserError(f"--slides: found {slides}, expected how many slides there will be.")
    config = read_config(configfile)
    print(text(config, read_cohort(config, slides), Profile.named(profile)), end="")


if __name__ == "__main__":
    run(plan)
