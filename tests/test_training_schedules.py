"""Schedules at the published points, and against the arrays of the official codes written out in float64."""

import math

import numpy as np
import pytest

from microtome.recipes import Dino, Mae, RunRecipe
from microtome.training_schedules import Length, cosine, dino_rates, mae_rates, peak_lr
from tests.training import published

DINO_LENGTH = Length(steps_per_epoch=65_000_000 // 1080, schedule_epochs=50)
MAE_LENGTH = Length(steps_per_epoch=65_000_000 // 1440, schedule_epochs=50)


def test_dino_has_the_published_rates() -> None:
    recipe, run = published("dino_vits16", Dino)
    assert DINO_LENGTH.steps_per_epoch == 60_185
    assert peak_lr(recipe, run) == pytest.approx(2.109e-4, rel=1e-3)
    at = [dino_rates(epoch * DINO_LENGTH.steps_per_epoch, DINO_LENGTH, recipe, run) for epoch in (0, 1, 25)]
    assert at[0].lr == 0
    assert at[0].weight_decay == pytest.approx(0.04)
    assert at[0].momentum == pytest.approx(0.996)
    assert at[1].lr == pytest.approx(2.109e-4, rel=1e-3)
    assert at[2].lr == pytest.approx(1.093e-4, rel=1e-3)
    assert at[2].weight_decay == pytest.approx(0.22, rel=1e-3)
    assert at[2].momentum == pytest.approx(0.998, abs=1e-6)
    assert {rates.teacher_temp for rates in at} == {0.04}
    end = dino_rates(DINO_LENGTH.steps - 1, DINO_LENGTH, recipe, run)
    assert end.lr == pytest.approx(1e-6, rel=1e-3)
    assert end.weight_decay == pytest.approx(0.4, rel=1e-6)
    assert end.momentum == pytest.approx(1.0)


def test_mae_has_the_published_rates() -> None:
    recipe, run = published("mae_vitl16", Mae)
    assert MAE_LENGTH.steps_per_epoch == 45_138
    at = [mae_rates(epoch * MAE_LENGTH.steps_per_epoch, MAE_LENGTH, recipe, run) for epoch in (0, 2.5, 5, 27.5, 50)]
    assert [rates.lr for rates in at] == pytest.approx([0, 5.625e-4 / 2, 5.625e-4, 5.625e-4 / 2, 0])
    assert {rates.weight_decay for rates in at} == {0.05}
    assert at[0].momentum is None


def test_cosine_is_the_official_array() -> None:
    """`cosine_scheduler` of facebookresearch/dino as described: linspace warm-up, then a half cosine over the other iterations."""
    steps, warmup, start, end = 700, 70, 3e-3, 1e-5
    rest = np.arange(steps - warmup)
    official = np.concatenate([np.linspace(0, start, warmup), end + 0.5 * (start - end) * (1 + np.cos(np.pi * rest / len(rest)))])
    assert [cosine(step, steps, start, end, warmup) for step in range(steps)] == pytest.approx(official.tolist(), rel=1e-12)


def test_mae_rates_follow_the_fractional_epoch() -> None:
    recipe, run = published("mae_vitl16", Mae)
    length = Length(steps_per_epoch=7, schedule_epochs=20)
    for step in range(length.steps):
        epoch = step / 7
        peak = 1e-4 * 1440 / 256
        naive = peak * epoch / 5 if epoch < 5 else peak * 0.5 * (1 + math.cos(math.pi * (epoch - 5) / (20 - 5)))
        assert mae_rates(step, length, recipe, run).lr == pytest.approx(naive, rel=1e-12)


def test_the_teachers_temperature_is_warmed_up() -> None:
    recipe, run = published("dino_vits16", Dino)
    warm = recipe.model_copy(update={"warmup_teacher_temp": 0.04, "teacher_temp": 0.07, "warmup_teacher_temp_epochs": 3})
    length = Length(steps_per_epoch=10, schedule_epochs=20)
    temperatures = [dino_rates(step, length, warm, run).teacher_temp for step in (0, 15, 30, 199)]
    assert temperatures == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_a_warm_up_longer_than_the_training_still_ends() -> None:
    assert [cosine(step, 4, 1.0, 0.0, 1) for step in range(2)] == [0.0, 1.0]
    assert isinstance(published("dino_vits16", Dino)[1], RunRecipe)
