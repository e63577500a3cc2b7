"""What changes with every training step: learning rate, weight decay, teacher momentum, teacher temperature.

A step is counted from 0 over the whole schedule (`schedule_epochs` pseudo-epochs of `steps_per_epoch` steps), whenever training stops.
"""

import math
from dataclasses import dataclass

from microtome.recipes import Dino, Mae, RunRecipe


@dataclass(frozen=True)
class Length:
    """How long the schedules of a run are, in steps."""

    steps_per_epoch: int
    schedule_epochs: int

    @property
    def steps(self) -> int:
        """All steps of the schedule."""
        return self.steps_per_epoch * self.schedule_epochs

    def of(self, epochs: float) -> int:
        """The steps of a number of pseudo-epochs."""
        return int(epochs * self.steps_per_epoch)


@dataclass(frozen=True)
class Rates:
    """The values at one step; MAE has no teacher."""

    lr: float
    weight_decay: float
    momentum: float | None = None
    teacher_temp: float | None = None


def cosine(step: int, steps: int, start: float, end: float, warmup_steps: int = 0) -> float:
    """Linear from 0 to `start` over the warm-up (its last step has `start`), then half a cosine towards `end` (official DINO)."""
    if step < warmup_steps:
        return start * step / max(1, warmup_steps - 1)
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps)))


def peak_lr(recipe: Dino | Mae, run: RunRecipe) -> float:
    """The linear scaling rule: the learning rate is stated for a batch of 256."""
    return recipe.lr_per_256 * run.global_batch / 256


def dino_rates(step: int, length: Length, recipe: Dino, run: RunRecipe) -> Rates:
    """The rates of DINO. The teacher's temperature is warmed up step by step (the official code: epoch by epoch)."""
    warm = min(1.0, step / max(1, length.of(recipe.warmup_teacher_temp_epochs)))
    return Rates(
        lr=cosine(step, length.steps, peak_lr(recipe, run), recipe.min_lr, length.of(recipe.warmup_epochs)),
        weight_decay=cosine(step, length.steps, recipe.weight_decay, recipe.weight_decay_end),
        momentum=cosine(step, length.steps, recipe.momentum_teacher, 1.0),
        teacher_temp=recipe.warmup_teacher_temp + warm * (recipe.teacher_temp - recipe.warmup_teacher_temp),
    )


def mae_rates(step: int, length: Length, recipe: Mae, run: RunRecipe) -> Rates:
    """The rates of MAE: linear warm-up by the fractional epoch, then half a cosine to `min_lr`."""
    peak, epoch = peak_lr(recipe, run), step / length.steps_per_epoch
    if epoch < recipe.warmup_epochs:
        return Rates(lr=peak * epoch / recipe.warmup_epochs, weight_decay=recipe.weight_decay)
    part = (epoch - recipe.warmup_epochs) / (length.schedule_epochs - recipe.warmup_epochs)
    lr = recipe.min_lr + 0.5 * (peak - recipe.min_lr) * (1 + math.cos(math.pi * part))
    return Rates(lr=lr, weight_decay=recipe.weight_decay)
