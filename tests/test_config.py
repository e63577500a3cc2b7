"""The configuration is closed: what is misspelt, missing or points nowhere is refused before any job, with the key."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from microtome.config import load_config
from microtome.encoder_config import RunEncoder, TimmEncoder
from microtome.errors import UserError

FOLDER = Path(__file__).parents[1] / "config"


def values(*overlays: str) -> dict[str, Any]:
    merged: dict[str, Any] = yaml.safe_load((FOLDER / "config.yaml").read_text())
    for overlay in overlays:
        update_config(merged, yaml.safe_load((FOLDER / overlay).read_text()))
    return merged


def changed_at(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = values()
    section = changed
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return changed


def refused(changed: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        load_config(changed)
    return str(error.value)


OF_2023 = {
    **{"repeats": 20, "train_fraction": 0.8, "group": "patient", "replicas": 2, "epochs": 50, "warmup_epochs": 10},
    **{"lr": 1e-4, "lr_end": 1e-6, "weight_decay": 0.04, "weight_decay_end": 0.4, "hidden": 512, "attention": 384, "dropout": 0.25},
}
OF_2024 = {"group": "slide", "replicas": 1, "epochs": 40, "lr": 5e-4}
SHIPPED = [[], *([path.name] for path in sorted(FOLDER.glob("*.yaml")) if path.name not in ("config.yaml", "test.yaml"))]


@pytest.mark.parametrize("overlays", [*SHIPPED, ["demo.yaml", "test.yaml"]])
def test_every_configuration_is_valid_and_has_random_weights_as_the_null(overlays: list[str]) -> None:
    encoders = load_config(values(*overlays)).features.encoders.values()
    assert [encoder for encoder in encoders if isinstance(encoder, TimmEncoder) and encoder.weights == "random"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seed",), 2**64, "seed: found 18446744073709551616, expected"),
        (
            ("pretrain", "recipes", "dino", "global_crops_scale"),
            [1.0, 0.4],
            "global_crops_scale: found [1.0, 0.4], expected: the smaller part of the tile's area first",
        ),
        (("pretrain", "recipes", "dino", "clip_grad"), float("nan"), "pretrain.recipes.dino.dino.clip_grad"),
        (("tasks",), {"../x": {"table": "a", "origin": "", "disease": "", "kind": "detection"}}, "tasks.../x"),
    ],
)
def test_what_cannot_be_is_refused(path: tuple[str, ...], value: Any, message: str) -> None:
    assert message in refused(changed_at(path, value))


def test_an_overlay_leaves_out_what_it_sets_to_null() -> None:
    changed = values()
    changed["features"]["encoders"]["mae_vitl16"] = None
    changed["pretrain"]["runs"]["mae_vitl16"] = None
    assert list(load_config(changed).pretrain.runs) == ["dino_vits16"]


def test_the_published_experiment() -> None:
    paper = load_config(values("paper.yaml"))
    dino, mae = paper.pretrain.runs["dino_vits16"], paper.pretrain.runs["mae_vitl16"]
    assert (dino.global_batch, dino.schedule_epochs, dino.pseudo_epochs) == (12 * 90, 50, 25)
    assert (mae.global_batch, mae.schedule_epochs, mae.pseudo_epochs) == (8 * 180, 50, 50)
    assert paper.schedule.tiles == 65_000_000
    assert paper.schedule.tiles // dino.global_batch == 60_185  # iterations a pseudo-epoch
    assert len(paper.tasks) == 6
    encoder = paper.features.encoders["dino_vits16"]
    assert isinstance(encoder, RunEncoder)
    assert encoder.pseudo_epochs == (1, 3, 5, 7, 13, 19, 25)


@pytest.mark.parametrize(
    ("overlays", "changed"),
    [([], {}), (["paper.yaml"], {}), (["opal2024.yaml", "campanella2023.yaml"], {}), (["opal2024.yaml"], OF_2024)],
)
def test_the_two_published_protocols_of_the_benchmark(overlays: list[str], changed: dict[str, Any]) -> None:
    """Campanella et al. 2023, and OPAL's code of 2024; the later overlay decides."""
    config = load_config(values(*overlays))
    assert {**config.splits.model_dump(), **config.gma.model_dump(exclude={"version", "tf32"})} == {**OF_2023, **changed}
    assert config.gma.tf32 is not bool({"campanella2023.yaml", "opal2024.yaml"} & set(overlays)), "published in float32"


def test_where_a_run_stops_does_not_change_it() -> None:
    changed = copy.deepcopy(values())
    changed["pretrain"]["runs"]["dino_vits16"]["pseudo_epochs"] = 30
    before, after = load_config(values()), load_config(changed)
    assert before.pretrain.runs["dino_vits16"].recipe_only() == after.pretrain.runs["dino_vits16"].recipe_only()
