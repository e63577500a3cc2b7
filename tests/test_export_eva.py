"""eva is not installed here: that its configuration is read, and that what it calls gives the encoder's own features."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from microtome.encoders import load_encoder
from microtome.errors import UserError
from microtome.export_eva import TASKS, export_eva
from microtome.export_timm import export_timm
from microtome.vision_models import backbone
from tests.test_encoders import settings

import timm  # isort: skip  (after the mend of vision_models)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    card = {"model": "test_vit", "img_size": 64, "mean": [0.5, 0.6, 0.7], "std": [0.2, 0.3, 0.4]}
    model = backbone("test_vit", pretrained=False, img_size=64, seed=3)
    save_file(model.state_dict(), tmp_path / "encoder.safetensors", {"card": json.dumps(card)})
    export_timm(tmp_path / "encoder.safetensors", tmp_path / "mine")
    return tmp_path / "mine"


def exported(folder: Path, task: str = "crc", pooling: str = "cls") -> dict[str, Any]:
    export_eva(folder, task, pooling, Path("data") / task, folder / "eva.yaml")
    config: dict[str, Any] = yaml.safe_load((folder / "eva.yaml").read_text())
    return config


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_eva_sees_the_features_that_are_extracted_here(folder: Path, pooling: str) -> None:
    config = exported(folder, pooling=pooling)
    wrapper = config["trainer"]["init_args"]["callbacks"][-1]["init_args"]["backbone"]
    assert wrapper["class_path"] == "eva.core.models.wrappers.ModelFromFunction"
    assert wrapper["init_args"]["path"] == "timm.create_model"
    model = timm.create_model(**wrapper["init_args"]["arguments"]).eval()
    prepared = config["data"]["init_args"]["datasets"]["predict"][0]["init_args"]["transforms"]["init_args"]
    assert prepared == {"size": 64, "mean": [0.5, 0.6, 0.7], "std": [0.2, 0.3, 0.4]}
    tiles = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    mean, std = torch.tensor(prepared["mean"]), torch.tensor(prepared["std"])
    images = ((tiles / 255 - mean) / std).permute(0, 3, 1, 2)
    ours = load_encoder(settings(pooling=pooling, input_px=64), folder.parent / "encoder.safetensors")(tiles)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), ours)
    assert config["model"]["init_args"]["head"]["init_args"] == {"in_features": ours.shape[1], "out_features": 9}


@pytest.mark.parametrize("task", TASKS)
def test_splits_heads_and_losses_agree(folder: Path, task: str) -> None:
    config = exported(folder, task)
    written = config["trainer"]["init_args"]["callbacks"][-1]["init_args"]
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    assert [dataset["init_args"]["split"] for dataset in data["datasets"]["predict"]] == list(written["dataloader_idx_map"].values())
    stages = {stage: dataset["init_args"] for stage, dataset in data["datasets"].items() if stage != "predict"}
    assert {stage["root"] for stage in stages.values()} == {written["output_dir"]}
    assert list(data["dataloaders"]) == [*stages, "predict"]
    binary = model["head"]["init_args"]["out_features"] == 1
    assert model["criterion"].endswith("BCEWithLogitsLoss" if binary else "CrossEntropyLoss")
    assert all(("target_transforms" in stage) == binary for stage in stages.values())
    assert "${" not in (folder / "eva.yaml").read_text(), "eva reads it with OmegaConf"


def test_mistakes(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Found task bcss and pooling cls, expected one of bach, crc, mhist, patch_camelyon and"):
        export_eva(folder, "bcss", "cls", tmp_path, tmp_path / "eva.yaml")
    with pytest.raises(UserError, match=r"expected a folder with config\.json"):
        export_eva(tmp_path / "nowhere", "crc", "cls", tmp_path, tmp_path / "eva.yaml")
