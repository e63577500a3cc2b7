"""The monitor: RankMe against its definition, and what is said when training collapses."""

import math

import numpy as np
import pytest
import torch

from microtome import vit
from microtome.algorithm import Tiles
from microtome.collapse import judge, probe_features, rankme, settled_from, signs
from microtome.dino import DinoAlgorithm
from microtome.errors import UserError
from microtome.recipes import Dino, Mae, Monitor
from microtome.training_schedules import Length
from tests.training import CONFIG, photo, published, small_settings

MONITOR = Monitor.model_validate(CONFIG["monitor"])
HEALTHY = {"entropy": 3.0, "spread": 1.5, "rankme": 20.0, "loss": 5.0}


def test_rankme_is_its_definition() -> None:
    features = np.random.default_rng(0).normal(size=(30, 12))
    singular = np.sqrt(np.linalg.eigvalsh(features.T @ features))
    share = singular / singular.sum()
    assert float(rankme(torch.from_numpy(features))) == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_of_equal_directions_is_their_number(rank: int) -> None:
    assert float(rankme(torch.eye(20)[:rank].repeat(4, 1))) == pytest.approx(rank)


def test_rankme_of_nothing_is_finite() -> None:
    assert torch.isfinite(rankme(torch.zeros(4, 8)))


def test_a_healthy_training_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge(MONITOR, HEALTHY, 1024, settled=True, where="step 5") == ""
    assert judge(MONITOR, {"loss": 0.3, "rankme": 5.0}, None, settled=True, where="step 5") == ""
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("values", "out_dim"),
    [
        ({"entropy": 7.589, "spread": 0.176, "loss": 7.555}, 2048),  # the lowest spread and highest loss of the run that the README reports
        ({"entropy": 6.63, "spread": 0.022, "loss": 6.73}, 1024),  # of the demo's forty steps
    ],
)
def test_a_slow_start_is_no_collapse(values: dict[str, float], out_dim: int) -> None:
    assert signs(MONITOR, {**values, "rankme": 4.2}, out_dim, settled=True) == []


def test_outputs_all_alike_are_a_collapse_once_warm_up_is_over() -> None:
    """Of a real student and teacher whose last layer tells nothing from another."""
    settings = small_settings("dino")
    dino = DinoAlgorithm(settings.recipe, settings.run, Length(10, 4), 0)
    with torch.no_grad():
        for network in (dino.network, dino.teacher):
            network.head.last_layer.weight.fill_(1.0)
    loss = dino.loss(dino.network, dino.prepare(Tiles(photo(8, 48), np.arange(8), 1)), dino.rates(5))
    values = {name: float(value) for name, value in dino.after_update(dino.rates(5), 8).items()}
    values |= {"loss": float(loss.detach()), "rankme": 20.0}
    assert values["entropy"] == pytest.approx(math.log(64), rel=1e-5)
    assert signs(MONITOR, values, 64, settled=False) == []
    spread, alike, ln_k = signs(MONITOR, values, 64, settled=True)
    assert "the spread of the teacher's outputs is" in spread
    assert "the loss is more than 4.151: student and teacher tell no tile from another" in alike
    assert "ln 64 = 4.159" in ln_k


def test_outputs_must_differ_once_warm_up_and_the_frozen_last_layer_are_over() -> None:
    dino, mae = published("dino_vits16", Dino)[0], published("mae_vitl16", Mae)[0]
    assert settled_from(dino, Length(60_185, 50)) == 60_185
    assert settled_from(dino.model_copy(update={"freeze_last_layer_epochs": 3}), Length(100, 50)) == 300
    assert settled_from(mae, Length(100, 50)) == 500


@pytest.mark.parametrize(("change", "words"), [({"entropy": 0.01}, "one output takes all"), ({"rankme": 1.2}, "almost all alike")])
def test_a_collapse_is_a_warning_or_the_end(change: dict[str, float], words: str) -> None:
    assert words in judge(MONITOR, {**HEALTHY, **change}, 1024, settled=True, where="step 5")
    with pytest.raises(UserError, match=f"collapsed at step 5: .*{words}.*ln 1024 = 6.931"):
        judge(MONITOR.model_copy(update={"action": "stop"}), {**HEALTHY, **change}, 1024, settled=False, where="step 5")


def test_a_method_without_a_head_is_judged_by_rank_alone() -> None:
    assert signs(MONITOR, {"loss": 0.1, "entropy": 0.0, "rankme": 9.0}, None, settled=True) == []


def test_probe_features_are_the_encoders() -> None:
    model = vit.build_vit("vit_tiny_patch16_224", False, 32, seed=0)
    images, mean, std = photo(3, 48), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    resized = torch.nn.functional.interpolate(images.permute(0, 3, 1, 2), size=(32, 32), mode="bicubic", antialias=True)
    normalised = (resized / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.inference_mode():
        tokens = model.forward_features(normalised)
    assert torch.allclose(probe_features(model, images, 32, mean, std, "cls"), tokens[:, 0], atol=1e-5)
    assert torch.allclose(probe_features(model, images, 32, mean, std, "mean"), tokens[:, 1:].mean(dim=1), atol=1e-5)
