"""The configuration in words: what a reader of the report, or of a paper, is told of each step. Every number in it is a setting."""

from microtome.config import Config, Grid, Schedule, Tiles, Tissue
from microtome.recipes import Pretrain, Run

TISSUE = {
    "published": "Otsu's threshold on the thumbnail, pen marks and grey left out (Campanella et al. 2019, 2023)",
    "hsv": "A threshold of saturation on the thumbnail",
}


def protocol(config: Config) -> dict[str, str]:
    """What was done, by step, in the order of the data's way."""
    return {
        "tissue": _tissue(config.tissue),
        "tiles": _tiles(config.grid, config.tiles),
        "schedules": _schedules(config.schedule),
        **{f"pretraining of {name}": _pretraining(config.pretrain, run) for name, run in config.pretrain.runs.items()},
        "features": f"From frozen encoders, one vector a tile ({config.features.dtype}), all tiles of the tasks' slides.",
        "splits": _splits(config),
        "aggregation": _aggregation(config),
        "statistics": (
            f"Replicas of a split are averaged; then means over splits, with {config.figures.bootstrap:,} bootstrap resamples of splits. "
            "Pairs of encoders by the corrected resampled t-test (Nadeau and Bengio 2003), adjusted after Holm (1979) within a task."
        ),
    }


def _tissue(tissue: Tissue) -> str:
    return (
        f"{TISSUE[tissue.method]}, {tissue.subpixels} pixels along a tile; islands of less than {tissue.min_component_tiles} tiles dropped."
    )


def _tiles(grid: Grid, tiles: Tiles) -> str:
    least = f"at least {tiles.min_tissue_fraction:.0%}" if tiles.min_tissue_fraction else "any"
    blurred = f", sharpness of at least {tiles.min_sharpness:g}" if tiles.min_sharpness else ""
    blank = f", standard deviation of grey of at least {tiles.min_intensity_sd:g}" if tiles.min_intensity_sd else ""
    size = f"{grid.tile_px} x {grid.tile_px} px at {grid.mpp:g} µm/px, without overlap"
    cut = f"area-averaged from the nearest finer level{' or its JPEG at a smaller DCT scale' if tiles.fast_path else ''}"
    chroma = f"chroma subsampling {':'.join(tiles.jpeg_subsampling)}"
    copied = "; a source tile that fits as it is is copied with its own" if tiles.fast_path else ""
    jpeg = f"as JPEG of quality {tiles.jpeg_quality}, {chroma}{copied}"
    return f"{size}, {cut}, kept with {least} tissue{blurred}{blank}, {jpeg}."


def _schedules(schedule: Schedule) -> str:
    parts = schedule.slide_parts
    drawn = f"{schedule.tiles:,} tiles a pseudo-epoch, from one of {parts} parts of the slides: {parts} pass over all"
    out = f"patients of {', '.join(schedule.exclude_tasks)} kept out" if schedule.exclude_tasks else "no task's patients kept out"
    return f"{drawn}. An organ's share is that of its tiles to the power of {schedule.organ_alpha:g}, normalised; {out}."


def _pretraining(pretrain: Pretrain, run: Run) -> str:
    recipe = pretrain.recipes[run.recipe]
    peak = recipe.lr_per_256 * run.global_batch / 256
    start = f"{recipe.algorithm.upper()}, {run.model} from {run.init} weights, {run.global_batch:,} tiles a step, {run.precision}"
    rate = (
        f"learning rate up to {peak:.4g} in {recipe.warmup_epochs:g} pseudo-epochs, then down over {run.schedule_epochs} in all by a cosine"
    )
    return f"{start}; {rate}; stopped after {run.pseudo_epochs}."


def _splits(config: Config) -> str:
    kept = "no patient on both sides" if config.splits.group == "patient" else "slides drawn one by one, so patients may be on both sides"
    drawn = f"{config.splits.repeats} Monte-Carlo splits a task, {config.splits.train_fraction:.0%} of each class for training, {kept}"
    checked = ", checked that no patient is on both sides" if config.splits.group == "patient" else ""
    return f"{drawn}. Splits that a task table brings along (columns mccv) are taken as they are instead{checked}."


def _aggregation(config: Config) -> str:
    gma = config.gma
    model = f"Gated attention (Ilse et al. 2018; {gma.hidden} hidden units, {gma.attention} of attention, dropout {gma.dropout:g})"
    rate = f"AdamW, learning rate up to {gma.lr:g} in {gma.warmup_epochs} epochs, then down to {gma.lr_end:g}"
    decay = f"weight decay from {gma.weight_decay:g} to {gma.weight_decay_end:g}"
    runs = f"{gma.replicas} replicas a split. The last epoch counts, not the best."
    start = "Xavier-normal weights, unweighted cross-entropy" + (", on a GPU products in TF32" if gma.tf32 else "")
    return f"{model}, {start}, a slide a step, {gma.epochs} epochs, {rate}, {decay}; {runs}"
