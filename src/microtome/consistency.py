"""What one part of the configuration says of another: names that must be there, numbers that must go together."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from microtome.encoder_config import RunEncoder
from microtome.explain import did_you_mean
from microtome.recipes import Mae, Recipe, Run

if TYPE_CHECKING:
    from microtome.config import Config


def faults(config: "Config") -> Iterator[str]:
    """All that does not go together, a line each: the key, what was found, what was expected."""
    yield from _runs(config)
    yield from _features(config)
    yield from _at_most("gma.warmup_epochs", config.gma.warmup_epochs, "gma.epochs", config.gma.epochs)
    for task in config.schedule.exclude_tasks:
        yield from _known("schedule.exclude_tasks", task, config.tasks)
    for task in config.figures.attention_named:
        yield from _known("figures.attention_named", task, config.tasks)


def _runs(config: "Config") -> Iterator[str]:
    recipes, schedule = config.pretrain.recipes, config.schedule
    for name, run in config.pretrain.runs.items():
        key = f"pretrain.runs.{name}"
        yield from _known(f"{key}.recipe", run.recipe, recipes)
        yield from _at_most(f"{key}.pseudo_epochs", run.pseudo_epochs, "schedule.pseudo_epochs", schedule.pseudo_epochs)
        yield from _at_most(f"{key}.pseudo_epochs", run.pseudo_epochs, "its schedule_epochs", run.schedule_epochs)
        yield from _at_most(f"{key}.global_batch", run.global_batch, "schedule.tiles", schedule.tiles)
        if run.recipe in recipes:
            yield from _recipe(name, run, recipes[run.recipe])


def _recipe(name: str, run: Run, recipe: Recipe) -> Iterator[str]:
    key = f"pretrain.recipes.{run.recipe}"
    for warmup in ("warmup_epochs", "warmup_teacher_temp_epochs"):
        yield from _at_most(f"{key}.{warmup}", getattr(recipe, warmup, 0), f"schedule_epochs of run {name}", run.schedule_epochs)
    if isinstance(recipe, Mae) and (recipe.decoder_dim % 4 or recipe.decoder_dim % recipe.decoder_heads):
        wanted = f"a multiple of 4 and of decoder_heads ({recipe.decoder_heads})"
        yield f"{key}.decoder_dim: found {recipe.decoder_dim}, expected {wanted}"
    patch = re.search(r"patch(\d+)", run.model)  # to build the model would take torch
    if isinstance(recipe, Mae) and patch:
        patches = (recipe.crop_px // int(patch[1])) ** 2
        kept = f"which keeps one of the {patches} patches of a crop of run {name}"
        yield from _at_most(f"{key}.mask_ratio", recipe.mask_ratio, kept, 1 - 1 / max(patches, 1))


def _features(config: "Config") -> Iterator[str]:
    features, runs = config.features, config.pretrain.runs
    if config.tiles.store != "all" and features.source != "slides":
        yield "features.source: found tiles beside tiles.store: pretrain, expected slides: not all tiles are stored"
    if features.coords is not None and features.source != "slides":
        yield f"features.source: found tiles beside coords: {features.coords}, expected slides: no tiles are stored there"
    for name, encoder in features.encoders.items():
        if isinstance(encoder, RunEncoder):
            key = f"features.encoders.{name}"
            yield from _known(f"{key}.run", encoder.run, runs)
            if encoder.run in runs:
                last = max(encoder.pseudo_epochs, default=0)
                yield from _at_most(f"{key}.pseudo_epochs", last, f"the end of run {encoder.run}", runs[encoder.run].pseudo_epochs)


def _known(key: str, name: str, names: Mapping[str, object]) -> Iterator[str]:
    if name not in names:
        yield f"{key}: found {name!r}, expected one of: {', '.join(names) or '(none is defined)'}{did_you_mean(name, names)}"


def _at_most(key: str, value: float, what: str, limit: float) -> Iterator[str]:
    if value > limit:
        yield f"{key}: found {value}, expected at most {limit} ({what})"
