"""State files that know when they are damaged, and encoders that anyone can load."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from microtome.checkpoint import DamagedStateError, checksum, load_state, rolling_states, save_encoder, save_rolling, save_state
from microtome.vision_models import backbone, timm

STATE = {"weights": torch.arange(1000.0), "step": 7, "text": "a", "rows": [{"loss": 1.5, "rankme": None}]}


def test_a_state_comes_back_and_is_an_ordinary_file_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, STATE)
    for found in (load_state(path), torch.load(path, weights_only=True)):
        assert torch.equal(found.pop("weights"), STATE["weights"])
        assert found == {"step": 7, "text": "a", "rows": [{"loss": 1.5, "rankme": None}]}
    assert zipfile.ZipFile(path).testzip() is None
    assert zipfile.ZipFile(path).comment.decode() == checksum(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("state") / "state.pt"
    save_state(path, STATE)
    return path.read_bytes()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_damage_is_found(whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    for content in (bytes(flipped), whole[:place], whole + b"0"):
        path.write_bytes(content)
        with pytest.raises(DamagedStateError, match=rf"damaged.pt: its {len(content)} bytes"):
            load_state(path)


def test_the_new_state_and_the_last_good_one_are_kept(tmp_path: Path) -> None:
    first = save_rolling(tmp_path, 10, STATE, before=None)
    (tmp_path / "state_000000099.pt").write_bytes(b"damaged")
    second = save_rolling(tmp_path, 20, STATE, before=first)
    assert rolling_states(tmp_path) == [second, first]
    third = save_rolling(tmp_path, 30, STATE, before=second)
    assert rolling_states(tmp_path) == [third, second]


def test_an_encoder_loads_into_timm_by_one_line(tmp_path: Path) -> None:
    model, path = backbone("vit_tiny_patch16_224", False, img_size=64, seed=3), tmp_path / "encoder.safetensors"
    save_encoder(path, model, {"model": "vit_tiny_patch16_224", "img_size": 64})
    with safe_open(path, "pt") as file:
        card = json.loads(file.metadata()["card"])
    loaded = timm.create_model(card["model"], checkpoint_path=str(path), img_size=card["img_size"], num_classes=0)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    first = path.read_bytes()
    save_encoder(path, model, {"img_size": 64, "model": "vit_tiny_patch16_224"})
    assert path.read_bytes() == first
