"""The configuration: every section, typed, closed and frozen. Values live in `config/*.yaml` alone; there is no default here.

Units are in the names: `_px` pixels at the wanted resolution, `_px0` pixels of level 0, `mpp` µm per pixel. This module imports nothing
heavy: the Snakefile validates with it when it is parsed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from microtome.consistency import faults
from microtome.encoder_config import Features, Quality
from microtome.errors import UserError
from microtome.explain import explain
from microtome.recipes import Pretrain
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
    def parts_fit(self) -> Self:
        """Every name that points elsewhere in the configuration points at something, and numbers go together: see `consistency`."""
        if found := list(faults(self)):
            raise ValueError("\n  ".join(found))
        return self


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
