"""What does not go together in the configuration is refused before any job: each fault is named, and all of them."""

from typing import Any

import pytest

from tests.test_config import changed_at, refused, values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("features", "encoders", "dino_vits16", "run"), "dino_vits", "did you mean 'dino_vits16'?"),
        (("pretrain", "runs", "dino_vits16", "recipe"), "dinov3", "expected one of: dino, mae"),
        (("pretrain", "runs", "dino_vits16", "pseudo_epochs"), 51, "expected at most 50 (schedule.pseudo_epochs)"),
        (("features", "encoders", "dino_vits16", "pseudo_epochs"), [26], "found 26, expected at most 25 (the end of run dino_vits16)"),
        (("pretrain", "runs", "dino_vits16", "global_batch"), 10**9, "expected at most 65000000 (schedule.tiles)"),
        (
            ("pretrain", "recipes", "dino", "warmup_epochs"),
            51,
            "warmup_epochs: found 51.0, expected at most 50 (schedule_epochs of run dino_vits16)",
        ),
        (("pretrain", "recipes", "dino", "warmup_teacher_temp_epochs"), 60, "found 60.0, expected at most 50"),
        (
            ("pretrain", "recipes", "mae", "mask_ratio"),
            0.996,
            "pretrain.recipes.mae.mask_ratio: found 0.996, expected at most 0.9948979591836735 (which keeps one of the 196 patches",
        ),
        (
            ("pretrain", "recipes", "mae", "decoder_dim"),
            520,
            "mae.decoder_dim: found 520, expected a multiple of 4 and of decoder_heads (16)",
        ),
        (("gma", "epochs"), 9, "gma.warmup_epochs: found 10, expected at most 9 (gma.epochs)"),
        (("schedule", "exclude_tasks"), ["exmple"], "did you mean 'example'?"),
        (("figures", "attention_named"), {"exmple": ["a_slide"]}, "figures.attention_named: found 'exmple'"),
        (
            ("features", "coords"),
            "folder",
            "features.source: found tiles beside coords: folder, expected slides: no tiles are stored there",
        ),
        (("tiles", "store"), "pretrain", "features.source: found tiles beside tiles.store: pretrain, expected slides"),
    ],
)
def test_what_does_not_go_together_is_refused(path: tuple[str, ...], value: Any, message: str) -> None:
    assert message in refused(changed_at(path, value))


def test_every_fault_is_named() -> None:
    changed = values()
    changed["schedule"]["tiles"] = 1000
    changed["pretrain"]["runs"]["mae_vitl16"]["pseudo_epochs"] = 60
    changed["gma"]["epochs"] = 9
    assert refused(changed).splitlines() == [
        "The configuration is not valid.",
        "  pretrain.runs.dino_vits16.global_batch: found 1080, expected at most 1000 (schedule.tiles)",
        "  pretrain.runs.mae_vitl16.pseudo_epochs: found 60, expected at most 50 (schedule.pseudo_epochs)",
        "  pretrain.runs.mae_vitl16.pseudo_epochs: found 60, expected at most 50 (its schedule_epochs)",
        "  pretrain.runs.mae_vitl16.global_batch: found 1440, expected at most 1000 (schedule.tiles)",
        "  gma.warmup_epochs: found 10, expected at most 9 (gma.epochs)",
    ]
