"""Backbones: sizes against the papers, initialisation from the seed alone, and what is said when a model or its weights cannot be had."""

import os
import subprocess
import sys

import pytest
import torch

from microtome.errors import UserError
from microtome.vision_models import backbone, normalization


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


def test_normalization_is_the_models_own() -> None:
    assert normalization(backbone("resnet50.tv_in1k", False)) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_an_unknown_model_is_named_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"'vit_smal_patch16_224'.*timm.*vit_small_patch16_224"):
        backbone("vit_smal_patch16_224", pretrained=False)


def test_weights_that_cannot_be_fetched_are_an_error_with_a_remedy(tmp_path) -> None:  # type: ignore[no-untyped-def]
    code = "from microtome.vision_models import backbone; backbone('resnet18.a1_in1k', True)"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "UserError: The published weights of 'resnet18.a1_in1k' could not be had" in done.stderr
    assert "weights: random" in done.stderr
