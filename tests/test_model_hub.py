"""Models of the hub, through the real client against a hub on this machine; nothing is fetched from the network."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from microtome.encoders import load_encoder
from microtome.errors import UserError
from microtome.export_timm import export_timm
from microtome.vision_models import backbone
from tests.hub_server import hub
from tests.test_encoders import settings


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub with the model `tiny`, and what is no model for timm under `other`; its client's settings are those of this test."""
    card = {"model": "test_vit", "img_size": 32, "mean": [0.5, 0.6, 0.7], "std": [0.2, 0.3, 0.4]}
    weights = backbone("test_vit", pretrained=False, img_size=32, seed=3).state_dict()
    save_file(weights, tmp_path / "encoder.safetensors", {"card": json.dumps(card)})
    export_timm(tmp_path / "encoder.safetensors", tmp_path / "hub" / "tiny")
    (tmp_path / "hub" / "other").mkdir()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub(tmp_path / "hub") as address:
        for name, value in {
            "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "no_token"),
            "HF_STORED_TOKENS_PATH": str(tmp_path / "no_tokens"),
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield tmp_path / "hub"


@pytest.mark.parametrize("name", ["hf-hub:me/tiny", "hf-hub:me/tiny@v1", "local-dir:{models}/tiny"])
def test_a_model_of_the_hub_or_of_a_folder_is_its_card_and_weights(models: Path, name: str) -> None:
    encoder = load_encoder(settings(timm=name.format(models=models), weights="pretrained"), None)
    original = backbone("test_vit", pretrained=False, img_size=32, seed=3).state_dict()
    assert all(torch.equal(tensor, original[key]) for key, tensor in encoder.model.state_dict().items())
    assert encoder.preparation == (36, 32, (0.5, 0.6, 0.7), (0.2, 0.3, 0.4))


def test_a_gated_model_comes_with_its_token(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "known")
    load_encoder(settings(timm="hf-hub:gated/tiny", weights="pretrained"), None)


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("gated/tiny", None, r"'gated/tiny' is gated, and there is no token\. Log in on .*co/gated/tiny and accept its lic.*HF_TOKEN"),
        ("gated/tiny", "stranger", r"'gated/tiny' is gated, and the account of the token .* no access\. Log in .*with that account"),
        ("gated/tiny", "expired", r"The hub refuses the token that was found \(HF_TOKEN.*wrong or expired; make a token with read access"),
        ("me/tyni", None, r"The hub knows no model 'me/tyni', or it is private\. Mend the name .*HF_TOKEN"),
        ("me/tiny@v2", None, r"The hub has 'me/tiny', but no revision 'v2'\. Expected one of .*/me/tiny/commits/main"),
        ("me/other", None, r"The hub has 'me/other', but not for timm \(config\.json and weights\)"),
    ],
)
def test_what_the_hub_refuses_is_told_with_its_remedy(
    models: Path, monkeypatch: pytest.MonkeyPatch, name: str, token: str | None, message: str
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=message):
        load_encoder(settings(timm=f"hf-hub:{name}", weights="pretrained"), None)


def test_what_was_fetched_once_needs_no_network(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_encoder(settings(timm="hf-hub:me/tiny", weights="pretrained"), None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load_encoder(settings(timm="hf-hub:me/tiny", weights="pretrained"), None)


def test_a_tensor_that_the_weights_lack_is_never_random(models: Path) -> None:
    """timm by itself would leave it at its random initialisation where the number of classes differs."""
    config = json.loads((models / "tiny" / "config.json").read_text())
    config["num_classes"] = config["pretrained_cfg"]["num_classes"] = 10
    (models / "tiny" / "config.json").write_text(json.dumps(config))
    weights = backbone("test_vit", pretrained=False, img_size=32).state_dict() | {
        "head.weight": torch.ones(10, 64),
        "head.bias": torch.ones(10),
    }
    del weights["blocks.0.attn.qkv.weight"]
    save_file(weights, models / "tiny" / "model.safetensors")
    with pytest.raises(UserError, match=r"The weights are not those of 'local-dir:.*Missing key.*blocks\.0\.attn\.qkv\.weight"):
        load_encoder(settings(timm=f"local-dir:{models}/tiny", weights="pretrained"), None)
