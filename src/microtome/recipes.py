"""The configuration of pretraining: recipes (DINO, MAE), runs that follow them, and what watches over them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from microtome.section import Count, Fraction, Name, Part, Positive, Rgb, RgbSpread, Section


def _rising(scale: tuple[float, float]) -> tuple[float, float]:
    if scale[0] > scale[1]:
        raise PydanticCustomError("not_rising", "the smaller part of the tile's area first")
    return scale


Scale = Annotated[tuple[Part, Part], AfterValidator(_rising)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class Dino(Section):
    """DINO (Caron et al. 2021), named as in the paper and its official code. Epochs are pseudo-epochs."""

    algorithm: Literal["dino"]
    version: int
    global_crops_px: Count
    global_crops_scale: Scale
    local_crops: Annotated[int, Field(ge=0)]
    local_crops_px: Count
    local_crops_scale: Scale
    mean: Rgb
    std: RgbSpread
    head_hidden: Count
    head_bottleneck: Count
    out_dim: Count
    norm_last_layer: bool
    freeze_last_layer_epochs: Annotated[float, Field(ge=0)]
    student_temp: Positive
    warmup_teacher_temp: Positive
    teacher_temp: Positive
    warmup_teacher_temp_epochs: Annotated[float, Field(ge=0)]
    momentum_teacher: BelowOne
    center_momentum: Fraction
    lr_per_256: Positive
    min_lr: Annotated[float, Field(ge=0)]
    warmup_epochs: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    weight_decay_end: Annotated[float, Field(ge=0)]
    clip_grad: Annotated[float, Field(ge=0)]
    drop_path_rate: BelowOne


class Mae(Section):
    """MAE (He et al. 2021), named as in the paper and its official code. Epochs are pseudo-epochs."""

    algorithm: Literal["mae"]
    version: int
    crop_px: Count
    crop_scale: Scale
    mean: Rgb
    std: RgbSpread
    mask_ratio: Annotated[float, Field(gt=0, lt=1)]
    norm_pix_loss: bool
    decoder_dim: Count
    decoder_depth: Count
    decoder_heads: Count
    lr_per_256: Positive
    min_lr: Annotated[float, Field(ge=0)]
    warmup_epochs: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    betas: tuple[BelowOne, BelowOne]


Recipe = Annotated[Dino | Mae, Field(discriminator="algorithm")]


class Monitor(Section):
    """When training has collapsed, and what to do then."""

    action: Literal["stop", "warn"]
    min_entropy_fraction: Fraction
    min_spread_fraction: Fraction
    max_loss_fraction: Positive
    min_rankme: Annotated[float, Field(ge=0)]


class RunRecipe(Section):
    """What determines the weights of a run, beside its recipe, the schedule and the seed."""

    recipe: str
    model: str
    init: Literal["random", "pretrained"]
    global_batch: Count
    schedule_epochs: Count
    precision: Literal["fp32", "bf16"]


class Run(RunRecipe):
    """A pretraining run; `pseudo_epochs` is where it stops, which changes none of its weights."""

    pseudo_epochs: Count

    def recipe_only(self) -> RunRecipe:
        """The run without its end."""
        return RunRecipe.model_validate(self.model_dump(exclude={"pseudo_epochs"}))


class Pretrain(Section):
    """The runs, the recipes they follow, and what does not change their weights."""

    save_every_minutes: Positive
    max_batch_per_process: Count
    max_replaced_tiles: Annotated[int, Field(ge=0)]
    compile: bool
    tensorboard: bool
    monitor: Monitor
    recipes: dict[Name, Recipe]
    runs: dict[Name, Run]
