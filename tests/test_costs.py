"""Costs of models against published numbers, and against what torch counts in the models themselves."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from microtome import costs
from microtome.config import Config, load_config
from microtome.encoder_config import Encoder, RunEncoder, TimmEncoder
from microtome.gma_model import Shape
from microtome.recipes import Mae
from microtome.vision_models import backbone
from tests.test_config import values


@pytest.fixture
def config() -> Config:
    return load_config(values("paper.yaml"))


def timm_encoder(timm: str, **changes: object) -> Encoder:
    plain = {"weights": "random", "arguments": {}, "truncate": None, "pooling": "model", "input_px": None, "normalization": None}
    return TimmEncoder.model_validate({"timm": timm, **plain, **changes})


def test_sizes_of_models_are_the_published(config: Config) -> None:
    small, large = costs.vit("vit_small_patch16_224"), costs.vit("vit_large_patch16_224")
    assert small is not None
    assert large is not None
    assert small.weights == pytest.approx(21.7e6, rel=0.02)
    assert large.weights == pytest.approx(303.3e6, rel=0.02)
    assert small.gmac(224) == pytest.approx(4.6, rel=0.02)  # Touvron et al. 2021
    assert large.gmac(224) == pytest.approx(61.6, rel=0.02)  # He et al. 2022
    dino, mae = config.pretrain.recipes["dino"], config.pretrain.recipes["mae"]
    assert costs.tiles_s_gpu(costs.train_gmac(dino, "vit_small_patch16_224"), "fp32") == pytest.approx(89)
    assert isinstance(mae, Mae)
    assert costs.tiles_s_gpu(costs.train_gmac(mae, "vit_large_patch16_224"), "bf16") == pytest.approx(270)
    head = 384 * 2048 + 2048**2 + 2048 * 256 + 256 * 65536
    assert costs.state_b(dino, "vit_small_patch16_224") == pytest.approx(16 * (21.7e6 + head), rel=0.02)


@pytest.mark.parametrize("name", [f"vit_{size}_224" for size in ("tiny_patch16", "base_patch16", "huge_patch14", "giant_patch14")])
def test_transformers_cost_what_torch_counts(name: str) -> None:
    """Within 7 %: norms and biases are not counted here, and giant's perceptrons are 4.36 widths wide, not 4."""
    with torch.device("meta"):
        model, image = backbone(name, pretrained=False), torch.zeros(1, 3, 224, 224)
        with FlopCounterMode(display=False) as counter:
            features = model(image)
    assert costs.encode_gmac(timm_encoder(name), name) == pytest.approx(counter.get_total_flops() / 2e9, rel=0.07)
    assert costs.encoder_weights(name) == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.07)
    assert costs.encoder_dim(timm_encoder(name), name) == features.shape[1]


@pytest.mark.parametrize("px", [96])
def test_resnet_50_costs_what_torch_counts(px: int) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        features = backbone("resnet50", pretrained=False)(torch.zeros(1, 3, px, px))
    last_stage = counter.get_flop_counts()["ResNet.layer4"]
    gmac, of_last_stage = counter.get_total_flops() / 2e9, sum(last_stage.values()) / 2e9
    whole, cut = timm_encoder("resnet50", input_px=px), timm_encoder("resnet50", input_px=px, truncate="layer3")
    assert costs.encode_gmac(whole, "resnet50") == pytest.approx(gmac, rel=0.05)
    assert costs.encode_gmac(cut, "resnet50") == pytest.approx(gmac - of_last_stage, rel=0.05)
    assert (costs.encoder_dim(whole, "resnet50"), costs.encoder_dim(cut, "resnet50")) == (features.shape[1], 1024)


def test_of_masked_patches_only_those_kept_cost() -> None:
    large = costs.vit("vit_large_patch16_224")
    assert large is not None
    assert large.gmac(224, 0.25) == pytest.approx(large.gmac(112))  # a quarter of the patches, whichever they are


def test_a_run_is_its_model_and_a_name_without_a_size_is_a_guess() -> None:
    run = RunEncoder(run="mine", pseudo_epochs=(1,), pooling="cls+mean", input_px=None)
    assert costs.model_of(run, {"mine": "vit_tiny_patch16_224"}) == "vit_tiny_patch16_224"
    assert costs.encoder_dim(run, "vit_tiny_patch16_224") == 2 * 192
    hub = timm_encoder("hf-hub:owner/name")
    assert costs.model_of(hub, {}) == "hf-hub:owner/name"
    assert [costs.is_guess(model) for model in ("hf-hub:owner/name", "vit_tiny_patch16_224", "resnet50.tv_in1k")] == [True, False, False]
    assert costs.encode_gmac(hub, "hf-hub:owner/name") == costs.encode_gmac(hub, costs.UNKNOWN)


def test_the_aggregator_costs_its_matrices(config: Config) -> None:
    weights = Shape(1024, config.gma.hidden, config.gma.attention, 2, 0.0).weights()
    per_tile = sum(math.prod(weights[name]) for name in ("trunk_1", "trunk_2", "gate", "score"))
    assert costs.gma_gmac(1024, config.gma) == pytest.approx(per_tile / 1e9, rel=0.001)
