"""Encoders in the configuration: of two kinds, and from sources that cannot be mistaken for one another."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from microtome.encoder_config import Encoder, Quality, RunEncoder, TimmEncoder
from tests.test_config import refused, values

RUN: dict[str, Any] = {"run": "mine", "pseudo_epochs": [1, 5], "pooling": "cls", "input_px": None}
TIMM: dict[str, Any] = {"timm": "resnet50", "weights": "random", "arguments": {}, "truncate": None, "pooling": "model"} | {
    "input_px": None,
    "normalization": None,
}


def read(encoder: dict[str, Any]) -> Encoder:
    return TypeAdapter[Encoder](Encoder).validate_python(encoder)


def test_a_run_is_told_from_a_model_of_timm_and_both_come_back_from_json() -> None:
    run, timm = read(RUN), read(TIMM)
    assert (type(run), type(timm)) == (RunEncoder, TimmEncoder)
    adapter = TypeAdapter[Encoder](Encoder)
    assert [adapter.validate_json(encoder.json_text()) for encoder in (run, timm)] == [run, timm]
    with pytest.raises(ValidationError, match="timm\n  Extra inputs are not permitted"):
        read(RUN | {"timm": "resnet50"})


@pytest.mark.parametrize("weights", ["mine.safetensors", "a/mine.pth", "mine.pt", "mine.bin"])
def test_weights_may_be_a_file_of_a_model_of_timms_own(weights: str) -> None:
    found = read(TIMM | {"weights": weights})
    assert isinstance(found, TimmEncoder)
    assert found.weights == Path(weights)
    assert found.folder is None


@pytest.mark.parametrize("timm", ["hf-hub:owner/name", "hf-hub:owner/name@main", "local-dir:/models/mine"])
def test_a_hub_or_folder_brings_its_own_weights(timm: str) -> None:
    found = read(TIMM | {"timm": timm, "weights": "pretrained"})
    assert isinstance(found, TimmEncoder)
    assert found.folder == (Path("/models/mine") if timm.startswith("local-dir:") else None)
    changed = values()
    changed["features"]["encoders"]["res50"] |= {"timm": timm, "weights": "mine.pth"}
    assert f"weights: found the file mine.pth beside {timm}, which has its own; expected pretrained" in refused(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "pretraned"}, "expected pretrained, random or a file (.safetensors, .pth, .pt, .bin); did you mean 'pretrained'?"),
        ({"weights": "weights.onnx"}, "weights: found 'weights.onnx', expected pretrained, random or a file"),
        ({"timm": "owner/name"}, "timm: found 'owner/name', expected a model's name in timm, hf-hub:owner/name or local-dir:folder"),
        ({"timm": "hub:name"}, "timm: found 'hub:name', expected a model's name in timm"),
        (
            {"normalization": {"mean": [0, 0, 0], "std": [1, 1, 0]}},
            "normalization.std.2: found 0, expected: input should be greater than 0",
        ),
        ({"input_px": 0}, "input_px: found 0, expected: input should be greater than or equal to 1"),
    ],
)
def test_bad_models(change: dict[str, Any], message: str) -> None:
    changed = values()
    changed["features"]["encoders"]["res50"] |= change
    assert message in refused(changed)


def test_how_encoders_are_judged_does_not_change_the_sample() -> None:
    of = Quality(version=1, tiles=2, tiles_per_slide=1, neighbours=20)
    assert of.sample_only() == of.model_copy(update={"neighbours": 5}).sample_only()
    assert of.sample_only() != of.model_copy(update={"tiles": 3}).sample_only()
    with pytest.raises(ValidationError, match="tiles\n  Input should be greater than or equal to 2"):
        Quality(version=1, tiles=1, tiles_per_slide=1, neighbours=20)  # no distance between fewer
