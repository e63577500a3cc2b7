import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from microtome.encoders import load_encoder, weights_digest
from microtome.errors import UserError
from microtome.settings import EncoderSettings
from microtome.vision_models import backbone
from tests.stage_settings import encoder_settings

CARD = {"model": "vit_tiny_patch16_224", "img_size": 64, "mean": [0.5, 0.6, 0.7], "std": [0.2, 0.3, 0.4]}


def settings(seed: int = 0, **encoder: object) -> EncoderSettings:
    kind = {"input_px": None, "pooling": "cls"}
    kind |= (
        {"run": "dino", "pseudo_epochs": [5]}
        if "timm" not in encoder
        else {"weights": "random", "arguments": {}, "normalization": None, "truncate": None}
    )
    return encoder_settings("it", seed=seed, encoder={**kind, **encoder})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model = backbone("vit_tiny_patch16_224", pretrained=False, img_size=64, seed=3)
    save_file(model.state_dict(), tmp_path / "encoder.safetensors", {"card": json.dumps(CARD)})
    return tmp_path / "encoder.safetensors"


def tiles(n: int = 2, side: int = 64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8))


@pytest.mark.parametrize(("truncate", "dim", "millions"), [("layer3", 1024, 8.5), (None, 2048, 23.5)])
def test_resnet_50_has_the_published_size(truncate: str | None, dim: int, millions: float) -> None:
    encoder = load_encoder(settings(timm="resnet50.tv_in1k", truncate=truncate, pooling="model"), None)
    assert round(sum(p.numel() for p in encoder.model.parameters()) / 1e6, 1) == millions
    assert encoder(tiles()).shape == (2, dim)


@pytest.mark.parametrize(
    ("name", "pooling", "dim"),
    [("vit_small_patch16_224", "cls", 384), ("vit_small_patch16_224", "cls+mean", 768), ("vit_large_patch16_224", "cls", 1024)],
)
def test_vits_have_the_published_dimensions(name: str, pooling: str, dim: int) -> None:
    with torch.device("meta"):
        encoder = load_encoder(settings(timm=name, pooling=pooling), None)
        assert encoder.pool(torch.zeros(2, 3, 224, 224)).shape == (2, dim)


def test_the_truncated_resnet_is_the_mean_of_its_third_stage() -> None:
    encoder = load_encoder(settings(timm="resnet50.tv_in1k", truncate="layer3", pooling="model"), None)
    stages: list[torch.Tensor] = []
    encoder.model.layer3.register_forward_hook(lambda module, inputs, output: stages.append(output))
    features = encoder(tiles())
    torch.testing.assert_close(features, stages[0].mean((2, 3)))


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224"])
def test_the_class_token_alone_is_that_of_all_tokens(model: str) -> None:
    """Also with layer scale and registers, and of models whose blocks are others."""
    encoder = load_encoder(settings(timm=model, input_px=224), None)
    images = encoder.prepare(tiles(2, 224))
    whole = backbone(model, pretrained=False).eval()
    for tensor in (*encoder.model.parameters(), *whole.parameters()):
        tensor.data.normal_(std=0.1, generator=torch.Generator().manual_seed(tensor.numel()))
    with torch.inference_mode():
        torch.testing.assert_close(encoder.pool(images), whole.forward_features(images)[:, 0], rtol=1e-5, atol=1e-5)


def test_the_preparation_is_the_cards(checkpoint: Path) -> None:
    assert load_encoder(settings(timm="resnet50.tv_in1k", pooling="model"), None).preparation[:2] == (256, 224)
    assert load_encoder(settings(timm="vit_small_patch16_224"), None).preparation == (248, 224, (0.5,) * 3, (0.5,) * 3)
    assert load_encoder(settings(timm="vit_small_patch16_224", input_px=96), None).preparation[:2] == (96, 96)
    assert load_encoder(settings(), checkpoint).preparation == (73, 64, (0.5, 0.6, 0.7), (0.2, 0.3, 0.4))


def test_resizing_and_cropping_are_pillows() -> None:
    encoder = load_encoder(settings(timm="vit_tiny_patch16_224", input_px=48), None)
    picture = Image.fromarray(tiles(1, 16)[0].numpy() // 2 + 64).resize((64, 64))  # far from 0 and 255, where Pillow clips
    expected = np.asarray(picture.resize((48, 48), Image.Resampling.BICUBIC), np.float32) / 255 * 2 - 1
    found = encoder.prepare(torch.from_numpy(np.array(picture))[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1.01 * 2 / 255)  # one grey level


def test_a_tile_of_256_px_is_only_cropped_to_224() -> None:
    encoder = load_encoder(settings(timm="resnet18.tv_in1k", pooling="model"), None)
    image = encoder.prepare(tiles(1, 256))[0]
    restored = image * 255 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) + 255 * torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    torch.testing.assert_close(restored, tiles(1, 256)[0, 16:240, 16:240].permute(2, 0, 1).float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean"])
def test_pooling(checkpoint: Path, pooling: str) -> None:
    encoder = load_encoder(settings(pooling=pooling, input_px=64), checkpoint)
    with torch.inference_mode():
        tokens = encoder.model.forward_features(encoder.prepare(tiles()))
    expected = {"cls": tokens[:, 0], "mean": tokens[:, 1:].mean(1), "cls+mean": torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)}
    torch.testing.assert_close(encoder(tiles()), expected[pooling])


def test_a_checkpoint_gives_its_own_weights(checkpoint: Path) -> None:
    original = backbone("vit_tiny_patch16_224", pretrained=False, img_size=64, seed=3)
    for name, tensor in load_encoder(settings(), checkpoint).model.state_dict().items():
        assert torch.equal(tensor, original.state_dict()[name])


def test_random_weights_follow_from_the_seed() -> None:
    digests = [weights_digest(load_encoder(settings(seed, timm="resnet18", pooling="model"), None)) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_bad_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        load_encoder(settings(), tmp_path / "nowhere.safetensors")
    with pytest.raises(UserError, match="expected --weights"):
        load_encoder(settings(), None)
    short = tmp_path / "short.safetensors"
    short.write_bytes(checkpoint.read_bytes()[:100_000])
    with pytest.raises(UserError, match="expected a whole safetensors file"):
        load_encoder(settings(), short)
    cardless = tmp_path / "cardless.safetensors"
    save_file({"x": torch.zeros(1)}, cardless)
    with pytest.raises(UserError, match="expected a card"):
        load_encoder(settings(), cardless)
    save_file({"x": torch.zeros(1)}, cardless, {"card": json.dumps(CARD)})
    with pytest.raises(UserError, match="not those of the model"):
        load_encoder(settings(), cardless)


def test_the_normalization_can_be_said() -> None:
    said = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    assert load_encoder(settings(timm="test_vit", normalization=said), None).preparation[2:] == (said["mean"], said["std"])


def small_vit(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**backbone("test_vit", pretrained=False, seed=3).state_dict(), **tensors}


def test_weights_from_a_file_as_others_write_them(tmp_path: Path) -> None:
    """timm's with a classifier, DINO's with a student and a head, MAE's with a decoder: the backbone is the same."""
    extra, expected = torch.ones(2), small_vit()
    save_file(small_vit(**{"head.weight": torch.ones(10, 64)}), tmp_path / "timm.safetensors")
    dino = {f"module.backbone.{key}": value for key, value in expected.items()} | {"module.head.mlp.0.weight": extra}
    torch.save({"student": {}, "teacher": dino, "epoch": 3}, tmp_path / "dino.pth")
    torch.save({"model": small_vit(mask_token=extra, decoder_pos_embed=extra), "epoch": 3}, tmp_path / "mae.pth")
    for name in ("timm.safetensors", "dino.pth", "mae.pth"):
        found = load_encoder(settings(timm="test_vit", weights=str(tmp_path / name)), None).model
        assert found.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in found.state_dict().items()), name


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(UserError, match=message):
            load_encoder(settings(timm="test_vit", weights=str(tmp_path / name)), None)

    missing = small_vit()
    del missing["norm.weight"]
    save_file(missing, tmp_path / "missing.safetensors")
    refused("missing.safetensors", r"not those of 'test_vit'. Missing key.*norm\.weight.*Expected all of its tensors and no others")
    save_file(small_vit(**{"blocks.0.ls1.gamma": torch.ones(64)}), tmp_path / "more.safetensors")
    refused("more.safetensors", r"Unexpected key.*blocks\.0\.ls1\.gamma.*set `arguments`")
    (tmp_path / "short.safetensors").write_bytes((tmp_path / "missing.safetensors").read_bytes()[:5000])
    refused("short.safetensors", "Model 'test_vit' could not be loaded: SafetensorError")
    torch.save({"model": small_vit(), "code": Path("x")}, tmp_path / "code.pth")
    refused("code.pth", "could not be loaded: RuntimeError: weights_only=True blocked")


def test_the_models_own_arguments(tmp_path: Path) -> None:
    """As Virchow2's card asks for them: a layer by its name in timm."""
    swiglu = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
    model = load_encoder(settings(timm="test_vit", arguments=swiglu), None).model
    assert type(model.blocks[0].mlp).__name__ == "GluMlp"
    save_file(model.state_dict(), tmp_path / "swiglu.safetensors")
    load_encoder(settings(timm="test_vit", weights=str(tmp_path / "swiglu.safetensors"), arguments=swiglu), None)
    with pytest.raises(UserError, match=r"'test_vit' could not be loaded: .*unexpected keyword argument 'depht'"):
        load_encoder(settings(timm="test_vit", arguments={"depht": 1}), None)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"timm": "test_vit", "arguments": {"global_pool": ""}, "pooling": "model"}, "pools nothing itself. Expected pooling: cls"),
        ({"timm": "resnet50", "pooling": "cls"}, "no tokens. Expected pooling: model"),
        ({"timm": "vit_tiny_patch16_224", "truncate": "layer3"}, "has no such stage. Expected a ResNet"),
        ({"timm": "resnet5o", "pooling": "model"}, "did you mean"),
    ],
)
def test_bad_settings(encoder: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_encoder(settings(**encoder), None)


def test_weights_that_cannot_be_fetched_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"(?s)published weights of 'vit_tiny_patch16_224' could not be had.*random weights") as caught:
        load_encoder(settings(timm="vit_tiny_patch16_224", weights="pretrained"), None)
    assert "Connect to the network" in str(caught.value)
    assert "`hf download timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k`" in str(caught.value), "with the tag that timm takes by itself"
    with pytest.raises(UserError, match=r"`hf download timm/vit_tiny_patch16_224\.augreg_in21k`"):
        load_encoder(settings(timm="vit_tiny_patch16_224.augreg_in21k", weights="pretrained"), None)
    with pytest.raises(UserError, match=r"`hf download me/it`"):
        load_encoder(settings(timm="hf-hub:me/it", weights="pretrained"), None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_small_patch16_36x1_224", r"another model that has some .*weights: FILE.*weights: random.*init: random"),
        ("resnet34.tv_in2k", r"one of resnet34\.a1_in1k, .*resnet34\.tv_in1k; a file"),
    ],
)
def test_a_model_without_published_weights(name: str, expected: str) -> None:
    with pytest.raises(UserError, match=f"There are no published weights of '{name}'. Expected {expected}"):
        load_encoder(settings(timm=name, weights="pretrained", pooling="model"), None)
