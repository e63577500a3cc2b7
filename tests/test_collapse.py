"""The monitor: RankMe against its definition, and what is said when training collapses."""

import math

import numpy as np
import pytest
import torch

from microtome import vit
from microtome.collapse import judge, probe_features, rankme, signs
from microtome.errors import UserError
from microtome.recipes import Monitor
from tests.training import photo

MONITOR = Monitor(action="warn", min_entropy_fraction=0.01, min_rankme=2.0)
HEALTHY = {"entropy": 3.0, "rankme": 20.0, "loss": 5.0}


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
    judge(MONITOR, HEALTHY, 1024, "step 5")
    judge(MONITOR, {"loss": 0.3, "rankme": 5.0}, None, "step 5")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("change", "words"), [({"entropy": 0.01}, "one output takes all"), ({"rankme": 1.2}, "almost all alike")])
def test_a_collapse_is_a_warning_or_the_end(change: dict[str, float], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    judge(MONITOR, {**HEALTHY, **change}, 1024, "step 5")
    assert words in capsys.readouterr().err
    with pytest.raises(UserError, match=f"collapsed at step 5: .*{words}.*ln 1024 = 6.931"):
        judge(MONITOR.model_copy(update={"action": "stop"}), {**HEALTHY, **change}, 1024, "step 5")


def test_a_method_without_a_head_is_judged_by_rank_alone() -> None:
    assert signs(MONITOR, {"loss": 0.1, "entropy": 0.0, "rankme": 9.0}, None) == []


def test_probe_features_are_the_encoders() -> None:
    model = vit.build_vit("vit_tiny_patch16_224", False, 32, seed=0)
    images, mean, std = photo(3, 48), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    resized = torch.nn.functional.interpolate(images.permute(0, 3, 1, 2), size=(32, 32), mode="bicubic", antialias=True)
    normalised = (resized / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.inference_mode():
        tokens = model.forward_features(normalised)
    assert torch.allclose(probe_features(model, images, 32, mean, std, "cls"), tokens[:, 0], atol=1e-5)
    assert torch.allclose(probe_features(model, images, 32, mean, std, "mean"), tokens[:, 1:].mean(dim=1), atol=1e-5)
