"""The configuration: every section, typed, closed and frozen. Values live in `config/*.yaml` alone; there is no default here.

Units are in the names: `_px` pixels at the wanted resolution, `_px0` pixels of level 0, `mpp` µm per pixel. This module imports nothing
heavy: the Snakefile validates with it when it is parsed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from microtome.encoder_config import Features, Quality, RunEncoder
from microtome.errors import UserError
from microtome.explain import did_you_mean, explain
from microtome.recipes import Mae, Pretrain, Recipe, Run
from microtome.section import Count, Fraction, Name, Positive, Section


class Cohort(Section):
    """Which slides of the table are used, and how they are shared out to jobs."""

    shards: Count
    stains: tuple[str, ...]
    exclude_patients: Path | None


class Reader(Section):
    """How slides are opened, their µm/px is found, and a replaced slide is noticed."""

    checksum: bool
    allow_objective_power: bool
    min_mpp: Positive
    max_mpp: Positive


class Grid(Section):
    """The tiles' size, resolution and places on a slide."""

    tile_px: Count
    mpp: Positive
    layout: Literal["published", "aligned"]


class Tissue(Section):
    """Tissue segmentation after Campanella 2019/2023 (`published`), or by saturation (`hsv`)."""

    version: int
    method: Literal["published", "hsv"]
    subpixels: Count
    blur_px: Count
    pen_black_max_value: int
    pen_blue_hue: tuple[int, int]
    pen_green_hue: tuple[int, int]
    pen_min_saturation: int
    pen_min_value: int
    grey_max_sd: float
    hsv_min_saturation: int
    min_component_tiles: Annotated[int, Field(ge=0)]


class Tiles(Section):
    """Which tiles are kept and how they are stored."""

    version: int
    store: Literal["all", "pretrain"]
    min_tissue_fraction: Fraction
    min_sharpness: Annotated[float, Field(ge=0)]
    min_intensity_sd: Annotated[float, Field(ge=0)]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    jpeg_subsampling: Literal["444", "422", "420"]
    fast_path: bool
    check_copies: bool


class Schedule(Section):
    """Organ-balanced pseudo-epochs over slide parts (fifths in the paper)."""

    version: int
    pseudo_epochs: Count
    tiles: Count
    slide_parts: Count
    organ_alpha: Fraction
    max_tiles_per_slide: Count | None
    block: Count
    exclude_tasks: tuple[str, ...]


class Task(Section):
    """A slide-level task: `table` has the columns slide and target; the rest is what the paper's table 1 states."""

    table: Path
    origin: str
    disease: str
    kind: Literal["detection", "biomarker", "outcome"]


class Splits(Section):
    """Monte-Carlo cross-validation."""

    repeats: Count
    train_fraction: Annotated[float, Field(gt=0, lt=1)]
    group: Literal["patient", "slide"]


class Gma(Section):
    """Gated-attention aggregation (Ilse et al. 2018) as trained by Campanella et al. 2023."""

    version: int
    hidden: Count
    attention: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    epochs: Count
    warmup_epochs: Annotated[int, Field(ge=0)]
    replicas: Count
    lr: Positive
    lr_end: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    weight_decay_end: Annotated[float, Field(ge=0)]
    tf32: bool


class Figures(Section):
    """How figures and tables are drawn."""

    bootstrap: Count
    single_runs: bool
    gallery_tiles: Count
    neighbour_queries: Count
    neighbours: Count
    attention_slides: Count
    attention_named: dict[str, tuple[str, ...]]


class Config(Section):
    """The whole configuration."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    slides: Path
    max_failed_fraction: Fraction
    tasks: dict[Name, Task]
    cohort: Cohort
    reader: Reader
    grid: Grid
    tissue: Tissue
    tiles: Tiles
    schedule: Schedule
    pretrain: Pretrain
    features: Features
    quality: Quality
    splits: Splits
    gma: Gma
    figures: Figures

    @model_validator(mode="after")
    def names_exist(self) -> Self:
        """Every name that points elsewhere in the configuration points at something."""
        for name, run in self.pretrain.runs.items():
            _known(f"pretrain.runs.{name}.recipe", run.recipe, self.pretrain.recipes)
            _at_most(f"pretrain.runs.{name}.pseudo_epochs", run.pseudo_epochs, "schedule.pseudo_epochs", self.schedule.pseudo_epochs)
            _at_most(f"pretrain.runs.{name}.pseudo_epochs", run.pseudo_epochs, "its schedule_epochs", run.schedule_epochs)
            _at_most(f"pretrain.runs.{name}.global_batch", run.global_batch, "schedule.tiles", self.schedule.tiles)
            _fits(name, run, self.pretrain.recipes[run.recipe])
        _at_most("gma.warmup_epochs", self.gma.warmup_epochs, "gma.epochs", self.gma.epochs)
        if self.tiles.store != "all" and self.features.source != "slides":
            raise ValueError("features.source: found tiles beside tiles.store: pretrain, expected slides: not all tiles are stored")
        if self.features.coords is not None and self.features.source != "slides":
            raise ValueError(
                f"features.source: found tiles beside coords: {self.features.coords}, expected slides: no tiles are stored there"
            )
        for name, encoder in self.features.encoders.items():
            if isinstance(encoder, RunEncoder):
                _known(f"features.encoders.{name}.run", encoder.run, self.pretrain.runs)
                last = self.pretrain.runs[encoder.run].pseudo_epochs
                _at_most(
                    f"features.encoders.{name}.pseudo_epochs", max(encoder.pseudo_epochs, default=0), f"the end of run {encoder.run}", last
                )
        for task in self.schedule.exclude_tasks:
            _known("schedule.exclude_tasks", task, self.tasks)
        for task in self.figures.attention_named:
            _known("figures.attention_named", task, self.tasks)
        return self


def _known(key: str, name: str, names: Mapping[str, object]) -> None:
    if name not in names:
        raise ValueError(f"{key}: found {name!r}, expected one of: {', '.join(names) or '(none is defined)'}{did_you_mean(name, names)}")


def _at_most(key: str, value: float, what: str, limit: float) -> None:
    if value > limit:
        raise ValueError(f"{key}: found {value}, expected at most {limit} ({what})")


def _fits(name: str, run: Run, recipe: Recipe) -> None:
    key = f"pretrain.recipes.{run.recipe}"
    for warmup in ("warmup_epochs", "warmup_teacher_temp_epochs"):
        _at_most(f"{key}.{warmup}", getattr(recipe, warmup, 0), f"schedule_epochs of run {name}", run.schedule_epochs)
    if isinstance(recipe, Mae) and (recipe.decoder_dim % 4 or recipe.decoder_dim % recipe.decoder_heads):
        wanted = f"a multiple of 4 and of decoder_heads ({recipe.decoder_heads})"
        raise ValueError(f"{key}.decoder_dim: found {recipe.decoder_dim}, expected {wanted}")
    patch = re.search(r"patch(\d+)", run.model)  # to build the model would take torch
    if isinstance(recipe, Mae) and patch:
        patches = (recipe.crop_px // int(patch[1])) ** 2
        kept = f"which keeps one of the {patches} patches of a crop of run {name}"
        _at_most(f"{key}.mask_ratio", recipe.mask_ratio, kept, 1 - 1 / max(patches, 1))


def load_config(values: Mapping[str, Any]) -> Config:
    """Validate the merged YAML `values`. A run, encoder or task set to null by an overlay is left out.

    Raises:
        UserError: with every key that is wrong, what was found and what was expected.
    """
    try:
        return Config.model_validate(_without_nulls(values))
    except ValidationError as error:
        raise UserError(f"The configuration is not valid.\n{explain(error, _all_keys())}") from None


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    cleaned = dict(values)
    for path in (("tasks",), ("pretrain", "runs"), ("pretrain", "recipes"), ("features", "encoders")):
        cleaned = _drop_nulls(cleaned, path)
    return cleaned


def _drop_nulls(values: Any, path: tuple[str, ...]) -> Any:
    if not isinstance(values, Mapping):
        return values
    if not path:
        return {key: value for key, value in values.items() if value is not None}
    return {key: _drop_nulls(value, path[1:]) if key == path[0] else value for key, value in values.items()}


def _all_keys() -> list[str]:
    def below(section: type[BaseModel]) -> set[str]:
        return set(section.model_fields).union(*(below(child) for child in section.__subclasses__()))

    return sorted(below(Section))
