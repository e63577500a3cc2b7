"""What single rules are given as `--settings`: exactly the values that change their bytes, so that a change reruns those rules alone."""

from microtome.config import Cohort, Figures, Gma, Grid, Reader, Schedule, Splits, Task, Tiles, Tissue
from microtome.encoder_config import Encoder, Precision, QualitySample, Source, Stored
from microtome.recipes import Recipe, RunRecipe
from microtome.section import Section


class CohortSettings(Section):
    """What changes the bytes of `cohort`."""

    cohort: Cohort


class TissueSettings(Section):
    """What changes the bytes of `tissue`."""

    reader: Reader
    grid: Grid
    tissue: Tissue


class TilesSettings(Section):
    """What changes the bytes of `tiles`, beside the masks."""

    reader: Reader
    grid: Grid
    tiles: Tiles


class ScheduleSettings(Section):
    """What changes the bytes of the schedules."""

    seed: int
    schedule: Schedule


class PretrainSettings(Section):
    """What changes the weights of a run."""

    seed: int
    run: RunRecipe
    recipe: Recipe


class EncoderSettings(Section):
    """What changes the features of one encoder."""

    version: int
    seed: int
    name: str
    encoder: Encoder
    precision: Precision
    dtype: Stored
    source: Source
    fast_path: bool  # of reading slides


class QualitySampleSettings(Section):
    """What changes the sample of tiles that judges encoders, beside the tiles."""

    seed: int
    quality: QualitySample


class SplitsSettings(Section):
    """What changes the splits of a task."""

    seed: int
    splits: Splits


class GmaSettings(Section):
    """What changes the benchmark of a task and encoder."""

    seed: int
    gma: Gma


class FiguresSettings(Section):
    """What changes figures and tables, beside the numbers they show. `labels`: what a legend calls each encoder."""

    seed: int
    figures: Figures
    slide_parts: int
    labels: dict[str, str]


class AttentionSettings(Section):
    """What changes the figure of a task's attention. `slides`: of each class, so many predicted best and as many predicted worst."""

    slides: int
    named: tuple[str, ...]
    labels: dict[str, str]


class TablesSettings(Section):
    """What changes tables, beside the numbers they show. `bootstrap`: resamples of the splits."""

    seed: int
    bootstrap: int
    tasks: dict[str, Task]
    labels: dict[str, str]
