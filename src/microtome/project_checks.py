"""Checks of the project in the working directory: its configuration, tables, encoders and profile."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from microtome.cohort import read_slides, select
from microtome.config import Config
from microtome.encoder_config import HUB, TimmEncoder
from microtome.errors import UserError
from microtome.findings import Finding, Level, some
from microtome.plan import uneven
from microtome.progress import progress
from microtome.project import Profile, read_config
from microtome.splits import check, given_splits, strata
from microtome.tasks import read_task, with_patients

SAMPLE = 200  # slides that are looked at
FILES_A_SLIDE = 3  # in the shard's folder of `tissue`, and in that of `tiles`
MAX_FILES_A_FOLDER = 5000


def sample(config: Config, slides: pd.DataFrame) -> pd.DataFrame:
    """At most `SAMPLE` slides, by the seed."""
    chosen = np.random.default_rng([config.seed]).choice(len(slides), min(SAMPLE, len(slides)), replace=False)
    return slides.iloc[np.sort(chosen)]


def slide_paths(config: Config, slides: pd.DataFrame) -> Finding:
    """Whether the slides of the sample are there."""
    paths = sample(config, slides)["path"]
    missing = [path for path in paths if not Path(path).is_file()]
    if not missing:
        return Finding("ok", f"{config.slides}: {len(slides):,} slides; {len(paths)} paths of them looked at, all there")
    level = _level(config, len(missing), len(paths))
    remedy = "mend the column path, or mount the archive here and on the nodes; a missing slide is a failed row"
    return Finding(level, f"{config.slides}: {len(missing)} of {len(paths)} paths looked at are no file: {some(missing)}", remedy)


def _level(config: Config, failed: int, looked_at: int) -> Level:
    """As many failures in a shard would stop its job, or not."""
    return "wrong" if failed > config.max_failed_fraction * looked_at else "warning"


def slide_resolutions(config: Config, slides: pd.DataFrame) -> Iterator[Finding]:
    """Whether the slides of the sample that are there can be opened, and have a µm/px as fine as `grid.mpp` wants."""
    there = [slide for slide in sample(config, slides).to_dict("records") if Path(slide["path"]).is_file()]
    if not there:
        return
    refused: dict[str, list[str]] = {}
    for slide in progress(there, len(there), "slides opened", "slide"):
        if fault := refusal(Path(slide["path"]), slide["mpp"], config):
            refused.setdefault(fault[0], []).append(f"{slide['slide']}: {fault[1]}")
    if not refused:
        yield Finding("ok", f"{len(there)} slides opened: their µm/px are known, and as fine as grid.mpp {config.grid.mpp:g}")
    level = _level(config, sum(map(len, refused.values())), len(there))
    for kind, found in refused.items():
        what = f"{len(found)} of {len(there)} slides looked at {kind}, such as {found[0]}"
        yield Finding(level, what, "they would be failed rows of `tissue`: see to them before the run")


def refusal(path: Path, table_mpp: float, config: Config) -> tuple[str, str] | None:
    """Why `tissue` would refuse a slide, in kind and in detail; None where it would not. `table_mpp`: µm/px, or NaN."""
    from microtome.grid import tile_grid  # not at the top: they need OpenSlide, and `doctor` has to say where that does not load
    from microtome.one_level import open_for_thumbnail
    from microtome.slides import SlideError, check_extent, resolution
    from microtome.thumbnails import refuse_gigapixel

    kind = "cannot be read"
    try:
        with open_for_thumbnail(path) as opened:
            kind = "have no µm/px to go by"
            mpp = resolution(opened.properties, table_mpp, config.reader).mpp
            kind = "are larger than any glass"
            check_extent(opened.level_sizes_px[0], mpp)
            kind = "are too coarse"
            places = tile_grid(*opened.level_sizes_px[0], mpp, config.grid)
            kind = "have no level that is small enough"
            refuse_gigapixel(opened, opened.level_sizes_px[0], min(places.cell_px0) / config.tissue.subpixels)
    except (SlideError, OSError) as error:
        return kind, str(error)
    return None


def shard_folders(config: Config, slides: int) -> Finding:
    """Whether a shard's folder of masks, overlays and notes (or tars, places and notes) stays small enough for a file system to list."""
    files = FILES_A_SLIDE * -(-slides // config.cohort.shards)
    what = f"{config.cohort.shards} shards: about {files:,} files in a folder of `tissue` or `tiles`"
    if files <= MAX_FILES_A_FOLDER:
        return Finding("ok", what)
    wanted = -(-FILES_A_SLIDE * slides // MAX_FILES_A_FOLDER)
    remedy = f"raise cohort.shards to {wanted:,} or more, before the first run: it moves every slide to another shard"
    return Finding("warning", f"{what}; more than {MAX_FILES_A_FOLDER:,} are slow on shared file systems", remedy)


def slide_table(config: Config) -> tuple[Finding | None, pd.DataFrame]:
    """The slides that are used; what is wrong with the table, if anything is."""
    try:
        used = select(read_slides(config.slides), config.cohort)[0]
    except UserError as error:
        return Finding(
            "wrong",
            str(error),
            "README, Your own slides, says how a slide table looks (the demo's is drawn by `python -m microtome.demo --folder demo`)",
        ), pd.DataFrame()
    none = Finding("wrong", f"{config.slides}: no slide is left after the stain and patient filters", "see `cohort` in the configuration")
    return (None if len(used) else none), used


def task_tables(config: Config, slides: pd.DataFrame) -> Finding:
    """Whether each task's table is whole, its slides are in the cohort, and it can be split."""
    wrong, counts = [], []
    for name, task in config.tasks.items():
        try:
            labelled = with_patients(task.table, read_task(task.table), slides)
            if given_splits(task.table, labelled, config.splits.group).empty:
                check(task.table, labelled, strata(labelled, config.splits.group), config.splits.group)
            counts.append(f"{name} {len(labelled):,}")
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        return Finding("wrong", " ".join(wrong), "mend the table, or set the task to null in an overlay")
    return Finding("ok", f"tasks: {', '.join(counts)} slides" if counts else "no tasks")


def hub(config: Config) -> Finding:
    """Whether weights that come from the Hugging Face hub are here, or can be fetched; timm's own models stand there, too."""
    import huggingface_hub

    encoders = [e for e in config.features.encoders.values() if isinstance(e, TimmEncoder) and e.weights == "pretrained" and not e.folder]
    gated = [encoder.timm.removeprefix(HUB).split("@")[0] for encoder in encoders if encoder.timm.startswith(HUB)]
    files = dict.fromkeys(gated, "config.json") | {f"timm/{e.timm}": "model.safetensors" for e in encoders if not e.timm.startswith(HUB)}
    unfetched = [name for name, file in files.items() if not isinstance(huggingface_hub.try_to_load_from_cache(name, file), str)]
    copy = "without a way to the hub copy HF_HOME here"
    if (refused := [name for name in unfetched if name in gated]) and not huggingface_hub.get_token():
        remedy = f"accept the licence on the model's page, then set HF_TOKEN (or `hf auth login`); {copy}"
        return Finding("warning", f"no hub token, and {some(refused)} is not in the cache: gated models refuse", remedy)
    if unfetched:
        what = f"not in the cache, to be fetched from the Hugging Face hub when features are made: {some(unfetched)}"
        return Finding("warning", what, f"see that the machines which make features reach it; {copy}")
    return Finding("ok", f"encoders from the hub: {some(list(files))}" if files else "no encoder from the hub")


def executor(slurm: bool) -> Finding:
    """Whether Snakemake can submit as the profile says."""
    if slurm and importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return Finding("wrong", "Snakemake has no Slurm executor", "`make install` brings it (snakemake-executor-plugin-slurm)")
    return Finding("ok", "Snakemake can submit to Slurm" if slurm else "Snakemake runs its jobs on this machine")


def processes(configfile: Sequence[Path], profile: Profile) -> Iterator[Finding]:
    """Whether the processes of pretraining can share each run's global batch; silent where the configuration is not valid."""
    with suppress(UserError):
        if faults := uneven(read_config(configfile), profile):
            yield Finding(
                "wrong", " ".join(faults), f"mend `nodes` and `processes` of pretrain in {profile.file}, or the run's global_batch"
            )
        else:
            yield Finding("ok", "pretraining's processes share each global batch equally")
