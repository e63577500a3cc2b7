import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from microtome.errors import UserError
from microtome.export_timm import export_timm
from microtome.vision_models import backbone

import timm  # isort: skip  (after the mend of vision_models)


def test_timm_loads_the_folder(tmp_path: Path) -> None:
    model = backbone("vit_tiny_patch16_224", pretrained=False, img_size=64, seed=3).eval()
    card = {"model": "vit_tiny_patch16_224", "img_size": 64, "mean": [0.5, 0.6, 0.7], "std": [0.2, 0.3, 0.4]}
    save_file(model.state_dict(), tmp_path / "encoder.safetensors", {"card": json.dumps(card)})
    export_timm(tmp_path / "encoder.safetensors", tmp_path / "out")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), model(images))
    told = timm.data.resolve_data_config(model=loaded)
    assert tuple(told["input_size"]) == (3, 64, 64)
    assert (tuple(told["mean"]), tuple(told["std"])) == ((0.5, 0.6, 0.7), (0.2, 0.3, 0.4))


def test_a_model_that_timm_does_not_name_cannot_be_told(tmp_path: Path) -> None:
    model = backbone("test_vit", pretrained=False)
    card = {"model": "test_vit", "img_size": 160, "mean": [0.5] * 3, "std": [0.2] * 3}
    save_file(model.state_dict(), tmp_path / "first.safetensors", {"card": json.dumps(card)})
    export_timm(tmp_path / "first.safetensors", tmp_path / "out")
    card["model"] = f"local-dir:{tmp_path / 'out'}"
    save_file(model.state_dict(), tmp_path / "encoder.safetensors", {"card": json.dumps(card)})
    with pytest.raises(UserError, match=r"its model is local-dir:.*whose arguments are kept elsewhere\. Expected a name of timm's"):
        export_timm(tmp_path / "encoder.safetensors", tmp_path / "again")


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        export_timm(tmp_path / "encoder.safetensors", tmp_path / "out")
