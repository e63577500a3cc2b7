"""What jobs there are, and what each one depends on: shards, encoders and tasks, with a digest of the rows that a job reads.

The Snakefile asks this module when it is parsed. A job takes the tables that many jobs share by `ancient()` and names here, by digest,
the rows and settings that change its own bytes: so a new slide, task or encoder runs its own jobs and no others.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd

from microtome.cohort import digests, read_slides, select, shard_name, shard_of
from microtome.config import Config
from microtome.digests import short_digest
from microtome.encoder_config import WEIGHT_FILES, Encoder, RunEncoder, TimmEncoder
from microtome.errors import UserError
from microtome.runs import base_name, last_checkpoints, pseudo_epoch_of
from microtome.settings import (
    AttentionSettings,
    CohortSettings,
    EncoderSettings,
    FiguresSettings,
    GmaSettings,
    PretrainSettings,
    QualitySampleSettings,
    ScheduleSettings,
    SplitsSettings,
    TablesSettings,
    TilesSettings,
    TissueSettings,
)
from microtome.tasks import read_task, with_patients

SLIDE_COLUMNS = ["slide", "path", "mpp", "mask", "mask_state"]  # what a slide's tissue and tiles follow from, beside settings
PATIENT_COLUMNS = ["slide", "patient"]  # what splits follow from, beside targets


class Jobs:
    """The jobs of one configuration, over the slides of its table."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.slides = _with_mask_states(select(read_slides(config.slides), config.cohort)[0])
        self.shards = [shard_name(number, config.cohort.shards) for number in range(config.cohort.shards)]
        self.feature_shards = [shard_name(number, config.features.shards) for number in range(config.features.shards)]
        self.tasks = {name: self._task_slides(task.table) for name, task in config.tasks.items()}
        self.encoders = dict(_encoders(config))
        self.with_nulls = dict(_with_nulls(self.encoders))
        self._weight_files = {n: _weight_files(n, e) for n, e in config.features.encoders.items() if isinstance(e, TimmEncoder)}
        self._digests = digests(self.slides, SLIDE_COLUMNS if config.tiles.store == "all" else [*SLIDE_COLUMNS, "pretrain"])

    def _task_slides(self, table: Path) -> pd.DataFrame:
        task = with_patients(table, read_task(table), self.slides)
        slides = self.slides[self.slides["slide"].isin(task["slide"])]
        shards = [shard_of(slide, self.config.features.shards) for slide in slides["slide"]]
        return slides.assign(shard=shards)

    def slides_digest(self, shard: str) -> str:
        """Changes when a slide of the shard is added, removed, moved, given another µm/px or mask, or is to be stored or no longer."""
        return self._digests.get(shard, "empty")

    @cached_property
    def _masks(self) -> dict[str, list[str]]:
        drawn = self.slides[self.slides["mask_state"] != ""]
        return {str(shard): sorted(rows["mask"]) for shard, rows in drawn.groupby("shard")}

    def masks(self, shard: str) -> list[str]:
        """The masks a person drew for slides of the shard, where they are there (a missing one is its slide's failure)."""
        return self._masks.get(shard, [])

    @cached_property
    def tile_settings_digest(self) -> str:
        """Changes when a setting that changes tiles does."""
        text = self.tissue_settings().json_text() + self.tiles_settings().json_text()
        return short_digest(text)

    @cached_property
    def _feature_digests(self) -> dict[str, str]:
        rows = pd.concat([*self.tasks.values(), pd.DataFrame(columns=[*SLIDE_COLUMNS, "shard"])]).drop_duplicates("slide")
        return digests(rows.sort_values("slide"), SLIDE_COLUMNS)

    def features_digest(self, shard: str) -> str:
        """Changes when the task slides of a feature shard, or a setting that changes their tiles, do."""
        return f"{self._feature_digests.get(shard, 'empty')} {self.tile_settings_digest}"

    def task_shards(self, task: str) -> list[str]:
        """The feature shards in which a task has slides."""
        return sorted(self.tasks[task]["shard"].unique())

    @cached_property
    def _task_digests(self) -> dict[tuple[str, ...], str]:
        # Once: the jobs of `gma` ask for theirs once a feature shard.
        slides = {task: rows.assign(shard="all") for task, rows in self.tasks.items()}
        kinds = (SLIDE_COLUMNS, PATIENT_COLUMNS)
        return {(task, *columns): digests(rows, columns).get("all", "empty") for task, rows in slides.items() for columns in kinds}

    def task_digest(self, task: str, columns: list[str]) -> str:
        """Changes when a slide enters or leaves the task, or one of its `columns` (SLIDE_COLUMNS or PATIENT_COLUMNS) changes."""
        return self._task_digests[(task, *columns)]

    def weights(self, encoder: str) -> list[str]:
        """The files an encoder is made from: a run's checkpoint, the user's own, or none (of the hub, or the null of a run)."""
        settings, pseudo_epoch = self.with_nulls[encoder]
        if isinstance(settings, RunEncoder):
            return [f"results/pretrain/{settings.run}/{pseudo_epoch}/encoder.safetensors"] if pseudo_epoch else []
        return self._weight_files[encoder]

    def nulls_and_last(self) -> list[str]:
        """Each run's null and last checkpoint side by side, then the encoders that are no runs."""
        shown = [name for name in self.with_nulls if pseudo_epoch_of(name) == 0 or name in last_checkpoints(self.encoders)]
        return sorted(shown, key=lambda name: pseudo_epoch_of(name) is None)

    def untrained(self, encoder: str) -> PretrainSettings | None:
        """For the null of a run, what its random weights follow from; None for any other encoder."""
        settings, pseudo_epoch = self.with_nulls[encoder]
        if not isinstance(settings, RunEncoder) or pseudo_epoch:
            return None
        trained = self.pretrain_settings(settings.run)
        return trained.model_copy(update={"run": trained.run.model_copy(update={"init": "random"})})

    def cohort_settings(self) -> CohortSettings:
        """For `cohort`."""
        return CohortSettings(cohort=self.config.cohort)

    def tissue_settings(self) -> TissueSettings:
        """For `tissue`."""
        return TissueSettings(reader=self.config.reader, grid=self.config.grid, tissue=self.config.tissue)

    def tiles_settings(self) -> TilesSettings:
        """For `tiles`."""
        return TilesSettings(reader=self.config.reader, grid=self.config.grid, tiles=self.config.tiles)

    def schedule_settings(self) -> ScheduleSettings:
        """For `schedule_quota` and `schedule`."""
        return ScheduleSettings(seed=self.config.seed, schedule=self.config.schedule)

    def pretrain_settings(self, run: str) -> PretrainSettings:
        """For `pretrain`: the same for all pseudo-epochs of a run, wherever it stops."""
        recipe = self.config.pretrain.recipes[self.config.pretrain.runs[run].recipe]
        return PretrainSettings(seed=self.config.seed, run=self.config.pretrain.runs[run].recipe_only(), recipe=recipe)

    def encoder_settings(self, encoder: str) -> EncoderSettings:
        """For `features` and `quality`."""
        features = self.config.features
        return EncoderSettings(
            version=features.version,
            seed=self.config.seed,
            name=encoder,
            encoder=self.with_nulls[encoder][0],
            precision=features.precision,
            dtype=features.dtype,
            source=features.source,
            fast_path=self.config.tiles.fast_path,
        )

    def quality_sample_settings(self) -> QualitySampleSettings:
        """For `quality_sample`."""
        return QualitySampleSettings(seed=self.config.seed, quality=self.config.quality.sample_only())

    def splits_settings(self) -> SplitsSettings:
        """For `splits`."""
        return SplitsSettings(seed=self.config.seed, splits=self.config.splits)

    def gma_settings(self) -> GmaSettings:
        """For `gma`."""
        return GmaSettings(seed=self.config.seed, gma=self.config.gma)

    def figures_settings(self) -> FiguresSettings:
        """For figures and tables."""
        parts = self.config.schedule.slide_parts
        return FiguresSettings(seed=self.config.seed, figures=self.config.figures, slide_parts=parts, labels=self._labels())

    def attention_settings(self, task: str) -> AttentionSettings:
        """For the figure of a task's attention."""
        figures, labels = self.config.figures, self._labels()
        shown = {encoder: labels[encoder] for encoder in last_checkpoints(self.encoders)}
        return AttentionSettings(slides=figures.attention_slides, named=figures.attention_named.get(task, ()), labels=shown)

    def tables_settings(self) -> TablesSettings:
        """For `tables`."""
        bootstrap = self.config.figures.bootstrap
        return TablesSettings(seed=self.config.seed, bootstrap=bootstrap, tasks=self.config.tasks, labels=self._labels())

    def _labels(self) -> dict[str, str]:
        return {name: self._label(name) for name in self.with_nulls}

    def _label(self, encoder: str) -> str:
        settings, pseudo_epoch = self.with_nulls[encoder]
        random = pseudo_epoch == 0 if isinstance(settings, RunEncoder) else settings.weights == "random"
        return f"{encoder} (random weights)" if random else encoder


def _with_mask_states(slides: pd.DataFrame) -> pd.DataFrame:
    """With `mask_state`, which changes when the file of a drawn mask does, be it by an older one; "" where there is none."""
    return slides.assign(mask_state=[_state(Path(mask)) if isinstance(mask, str) else "" for mask in slides["mask"]])


def _state(mask: Path) -> str:
    """By size and time: many are asked each time the Snakefile is parsed."""
    try:
        found = mask.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _weight_files(name: str, encoder: TimmEncoder) -> list[str]:
    """Raises UserError where a file or folder that the encoder names is not there."""
    if isinstance(encoder.weights, Path) and not encoder.weights.is_file():
        raise UserError(
            f"features.encoders.{name}.weights: {encoder.weights} is no file. Expected pretrained, random or a file of weights."
        )
    if encoder.folder is None:
        return [str(encoder.weights)] if isinstance(encoder.weights, Path) else []
    files = sorted(path for path in encoder.folder.glob("*") if path.suffix in WEIGHT_FILES)
    if not files or not (encoder.folder / "config.json").is_file():
        expected = "a folder with config.json and weights, as `python -m microtome.export_timm` writes it"
        raise UserError(f"features.encoders.{name}.timm: found {encoder.timm}, expected {expected}.")
    return [str(path) for path in (encoder.folder / "config.json", *files)]


def _encoders(config: Config) -> list[tuple[str, tuple[Encoder, int | None]]]:
    """Each encoder's id, settings and pseudo-epoch: `<name>@<pseudo-epoch>` for a checkpoint, the plain name for a timm model."""
    found: list[tuple[str, tuple[Encoder, int | None]]] = []
    for name, encoder in config.features.encoders.items():
        if isinstance(encoder, RunEncoder):
            # The list of checkpoints is not in a checkpoint's settings: a longer list runs the new ones alone.
            found += [(f"{name}@{e}", (encoder.model_copy(update={"pseudo_epochs": (e,)}), e)) for e in encoder.pseudo_epochs]
        else:
            found.append((name, (encoder, None)))
    return found


def _with_nulls(encoders: Mapping[str, tuple[Encoder, int | None]]) -> Iterator[tuple[str, tuple[Encoder, int | None]]]:
    """The encoders, and before the first checkpoint of each run `<name>@0`: the same architecture with random weights."""
    seen = set()
    for encoder, (settings, pseudo_epoch) in encoders.items():
        name = base_name(encoder)
        if pseudo_epoch is not None and name not in seen:
            seen.add(name)
            yield f"{name}@0", (settings.model_copy(update={"pseudo_epochs": ()}), 0)
        yield encoder, (settings, pseudo_epoch)
