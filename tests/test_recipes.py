"""Recipes and runs: what the papers state, what chooses between them, and what they refuse."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from microtome.recipes import Dino, Mae, Recipe, Run, RunRecipe
from tests.training import CONFIG

RECIPE: TypeAdapter[Any] = TypeAdapter(Recipe)


def changed(published: str, **values: Any) -> Any:
    return RECIPE.validate_python({**CONFIG["recipes"][published], **values})


def test_the_published_recipes() -> None:
    """Caron et al. 2021, section 3.2 and their run on ViT-S; He et al. 2021, tables 8 and A.1."""
    dino, mae = changed("dino"), changed("mae")
    assert isinstance(dino, Dino)
    assert (dino.head_hidden, dino.head_bottleneck, dino.out_dim) == (2048, 256, 65_536)
    assert (dino.student_temp, dino.teacher_temp, dino.momentum_teacher, dino.center_momentum) == (0.1, 0.04, 0.996, 0.9)
    assert (dino.global_crops_px, dino.local_crops_px, dino.weight_decay, dino.weight_decay_end) == (224, 96, 0.04, 0.4)
    assert isinstance(mae, Mae)
    assert (mae.mask_ratio, mae.norm_pix_loss, mae.decoder_depth, mae.decoder_dim, mae.decoder_heads) == (0.75, True, 8, 512, 16)
    assert (mae.crop_px, mae.betas, mae.weight_decay, mae.crop_scale) == (224, (0.9, 0.95), 0.05, (0.2, 1.0))


def test_the_algorithm_says_which_values_a_recipe_has() -> None:
    with pytest.raises(ValidationError, match=r"tag 'dinov2' .* does not match any of the expected tags: 'dino', 'mae'"):
        changed("dino", algorithm="dinov2")
    with pytest.raises(ValidationError, match=r"dino\.mask_ratio\n  Extra inputs are not permitted"):
        changed("dino", mask_ratio=0.5)


@pytest.mark.parametrize(
    ("algorithm", "values"),
    [
        ("mae", {"mask_ratio": 0.0}),  # nothing to predict: the loss is 0 / 0
        ("mae", {"mask_ratio": 1.0}),  # nothing to predict it from
        ("mae", {"lr_per_256": 0.0}),
        ("dino", {"momentum_teacher": 1.001}),
        ("dino", {"teacher_temp": 0.0}),
        ("dino", {"local_crops": -1}),
        ("dino", {"mean": (0.5, 0.5)}),
        ("dino", {"global_crops_px": 0}),
        ("dino", {"local_crops_px": 0}),
        ("dino", {"global_crops_scale": (0.4, 100)}),  # per cent
        ("dino", {"local_crops_scale": (0.4, 0.05)}),
        ("mae", {"crop_scale": (0.0, 1.0)}),  # a crop of nothing
        ("dino", {"momentum_teacher": 1.0}),  # a teacher that stays as it began
        ("dino", {"drop_path_rate": 1.0}),  # what is kept is scaled up by 1 / 0
        ("mae", {"betas": (0.9, 1.0)}),
        ("mae", {"betas": (-0.1, 0.95)}),
        ("mae", {"std": (0.2, 0.0, 0.2)}),
        ("dino", {"mean": (123.7, 0.5, 0.5)}),  # of 0..255
    ],
)
def test_values_that_cannot_be(algorithm: str, values: dict[str, Any]) -> None:
    changed(algorithm)
    with pytest.raises(ValidationError, match=f"1 validation error(.|\n)*{next(iter(values))}"):
        changed(algorithm, **values)


def test_where_a_run_stops_is_not_in_its_recipe() -> None:
    run = Run.model_validate(CONFIG["runs"]["dino_vits16"])
    longer = run.model_copy(update={"pseudo_epochs": run.pseudo_epochs + 25})
    assert type(run.recipe_only()) is RunRecipe
    assert run.recipe_only().json_text() == longer.recipe_only().json_text() != run.json_text()
    assert {**run.recipe_only().model_dump(), "pseudo_epochs": run.pseudo_epochs} == CONFIG["runs"]["dino_vits16"]
