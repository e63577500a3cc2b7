"""Backbones: sizes against the papers, initialisation from the seed alone, and what is said when there is no such model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from microtome.errors import UserError
from microtome.pretrain import build_algorithm
from microtome.training_schedules import Length
from microtome.vision_models import backbone, normalization
from tests.training import small_settings

import timm  # isort: skip  (after the mend of vision_models)


@pytest.mark.parametrize(("name", "millions"), [("vit_small_patch16_224", 21.7), ("vit_large_patch16_224", 303.3)])
def test_parameters_are_the_papers(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = backbone(name, pretrained=False)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_tiny_patch16_224.augreg_in21k",
        "vit_small_patch8_224",
        "vit_small_patch14_dinov2",
        "deit_tiny_patch16_224",
    ],
)
def test_a_vit_takes_several_image_sizes(name: str) -> None:
    model = backbone(name, pretrained=False, img_size=112).eval()
    patch = model.patch_embed.patch_size[0]
    assert model.pos_embed.shape[1] == (112 // patch) ** 2 + 1
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 112, 112)).shape == model(torch.zeros(2, 3, 4 * patch, 3 * patch)).shape


def test_initialisation_follows_from_the_seed_and_leaves_the_global_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = (backbone("vit_tiny_patch16_224", False, img_size=32, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_taking_the_classifier_off_is_making_none(name: str) -> None:
    """Published weights are loaded with their classifier, strictly; random ones are made without."""
    without = backbone(name, pretrained=False).eval()
    taken_off = timm.create_model(name).eval()
    taken_off.load_state_dict(without.state_dict(), strict=False)
    taken_off.reset_classifier(0)
    assert taken_off.state_dict().keys() == without.state_dict().keys()
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        assert torch.equal(taken_off(images), without(images))


def test_normalization_is_the_models_own() -> None:
    assert normalization(backbone("resnet50.tv_in1k", False)) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_an_unknown_model_is_named_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"'vit_smal_patch16_224'.*timm.*vit_small_patch16_224"):
        backbone("vit_smal_patch16_224", pretrained=False)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights of vit_tiny where the Hugging Face hub's cache would hold them once fetched; returns them."""
    model = backbone("vit_tiny_patch16_224", pretrained=False, seed=7)
    weights = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    head = {"head.weight": torch.zeros(1000, 192), "head.bias": torch.zeros(1000)}
    repository = tmp_path / "models--timm--vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123456789abcdef")
    (repository / "snapshots" / "0123456789abcdef").mkdir(parents=True)
    save_file({**weights, **head}, repository / "snapshots" / "0123456789abcdef" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return weights


@pytest.mark.parametrize("algorithm", ["dino", "mae"])
def test_a_run_starts_from_published_weights(algorithm: str, hub_cache: dict[str, torch.Tensor]) -> None:
    settings = small_settings(algorithm)
    run = settings.run.model_copy(update={"init": "pretrained", "model": "vit_tiny_patch16_224"})
    encoder = build_algorithm(settings.model_copy(update={"run": run}), Length(4, 2)).encoder.state_dict()
    same = [name for name, value in hub_cache.items() if encoder[name].shape == value.shape and torch.equal(encoder[name], value)]
    assert set(hub_cache) - set(same) <= {"pos_embed"}  # which is of another image size
    assert len(same) > 140


@pytest.mark.parametrize(("algorithm", "size"), [("dino", "global_crops_px"), ("mae", "crop_px")])
def test_published_weights_are_kept_whole_at_their_own_size(algorithm: str, size: str, hub_cache: dict[str, torch.Tensor]) -> None:
    """Student and teacher, class token and position embeddings: nothing is drawn again, as it is at random weights."""
    settings = small_settings(algorithm, **{size: 224})
    run = settings.run.model_copy(update={"init": "pretrained", "model": "vit_tiny_patch16_224"})
    built = build_algorithm(settings.model_copy(update={"run": run}), Length(4, 2))
    for encoder in (built.encoder, built.network.backbone if algorithm == "dino" else built.network.encoder):
        found = encoder.state_dict()
        assert found.keys() == hub_cache.keys()
        assert [name for name in found if not torch.equal(found[name], hub_cache[name])] == []
