"""Encoders: a tile's pixels in, a feature vector out. Each knows from its own card how its images are to be prepared.

A checkpoint of one of our runs, or any model that timm can build: with its published weights, those of the hub, of a folder or of a file.
A ResNet may be cut after its third stage (`truncate: layer3`, the published baseline: ResNet-50 gives 1,024 features there, 2,048 when
whole). Weights that cannot be had are an error, never silently random.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import interpolate

from microtome.encoder_config import RunEncoder, TimmEncoder
from microtome.errors import UserError
from microtome.settings import EncoderSettings
from microtome.vision_models import backbone, only_class_token

CROP_FRACTION = 0.875  # of the resized side that is kept where a card says nothing: 224 of 256 px, so tiles of 256 px are only cropped
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Preparation(NamedTuple):
    """How a tile becomes a model's input: the shorter side is resized to `resize_px`, the central `crop_px` square kept, then
    (value / 255 - mean) / std for each of R, G, B."""

    resize_px: int
    crop_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class TileEncoder(nn.Module):
    """A frozen model with its preparation and pooling.

    Args:
        model: timm's, without a classifier.
        pooling: `cls` (the class token), `mean` (of the patch tokens), `cls+mean` (both, side by side), `model` (the model's own).
    """

    def __init__(self, model: nn.Module, preparation: Preparation, pooling: str) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.preparation = preparation
        self.pooling = pooling
        if pooling == "cls":
            only_class_token(self.model)
        self.register_buffer("mean", 255 * torch.tensor(preparation.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(preparation.std).view(3, 1, 1), persistent=False)

    @torch.inference_mode()
    def forward(self, tiles: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
        """Features [n, d] float32 of `tiles` [n, height, width, 3] uint8, computed in `precision`."""
        with torch.autocast(tiles.device.type, precision, enabled=precision != torch.float32):
            return self.pool(self.prepare(tiles)).float()

    def prepare(self, tiles: Tensor) -> Tensor:
        """[n, height, width, 3] uint8 to the model's input [n, 3, crop_px, crop_px] float32. Resized pixels are rounded, as in Pillow."""
        resize_px, crop_px, shorter_px = self.preparation.resize_px, self.preparation.crop_px, min(tiles.shape[1:3])
        images = tiles.permute(0, 3, 1, 2)
        if shorter_px != resize_px:
            size = [round(side * resize_px / shorter_px) for side in tiles.shape[1:3]]
            on_cpu = images.device.type == "cpu"  # uint8 is four times as fast, rounded and limited, and known to CPUs alone
            images = interpolate(images if on_cpu else images.float(), size, mode="bicubic", antialias=True)
            images = images if on_cpu else images.clamp(0, 255).round()
        top, left = ((side - crop_px) // 2 for side in images.shape[2:])
        cropped = images[:, :, top : top + crop_px, left : left + crop_px]
        values = torch.empty(cropped.shape, device=cropped.device).copy_(cropped)  # planes of float32 in one go
        return values.sub_(cast("Tensor", self.mean)).div_(cast("Tensor", self.std))

    def pool(self, images: Tensor) -> Tensor:
        """[n, 3, height, width] to [n, d]."""
        if self.pooling == "model":
            return cast("Tensor", self.model(images))
        model = cast("Any", self.model)
        tokens = model.forward_features(images)  # [n, prefix + patches, d]
        both = {"cls": tokens[:, 0], "mean": tokens[:, model.num_prefix_tokens :].mean(1)}
        return torch.cat([both[name] for name in self.pooling.split("+")], dim=1)


def load_encoder(settings: EncoderSettings, weights: Path | None) -> TileEncoder:
    """The encoder that `settings` describe; `weights` is the checkpoint of a run's encoder and None for a timm model's.

    Raises:
        UserError: a checkpoint that is not there, cut short or of another model; a model or weights that timm cannot give; a pooling
            or truncation that the model does not have.
    """
    encoder = settings.encoder
    if isinstance(encoder, RunEncoder):
        if weights is None:
            raise UserError(f"{settings.name}: expected --weights, the encoder.safetensors of run {encoder.run}.")
        model, card = read_checkpoint(weights)
    else:
        model, card = _timm_model(encoder, settings.seed), {}
    _check_pooling(settings.name, model, encoder.pooling)
    card = {**cast("dict[str, Any]", model.pretrained_cfg), **card}
    if isinstance(encoder, TimmEncoder) and encoder.normalization is not None:
        card |= encoder.normalization.model_dump()
    return TileEncoder(model, _preparation(card, encoder.input_px), encoder.pooling)


def read_checkpoint(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model of an encoder.safetensors, and its card with timm's `input_size` and `crop_pct`.

    Raises:
        UserError: it is not there, cut short, without a card, or of another model than its card says.
    """
    remedy = "Remove it and run again: pretraining resumes from its state."
    if not weights.is_file():
        raise UserError(f"{weights}: no such checkpoint. Run the pretraining that makes it.")
    try:
        with safe_open(weights, framework="pt") as file:
            card = json.loads(file.metadata()["card"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
        model = backbone(card["model"], pretrained=False, img_size=card["img_size"])
        model.load_state_dict(tensors)
    except SafetensorError as error:
        raise UserError(f"{weights}: expected a whole safetensors file, found: {error}. {remedy}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{weights}: expected a card with model, img_size, mean and std, found: {error!r}. {remedy}") from error
    except RuntimeError as error:
        raise UserError(f"{weights}: its tensors are not those of the model on its card. {error}. {remedy}") from error
    return model, {"input_size": (3, card["img_size"], card["img_size"]), "crop_pct": CROP_FRACTION, **card}


def _timm_model(encoder: TimmEncoder, seed: int) -> nn.Module:
    file = encoder.weights if isinstance(encoder.weights, Path) else None
    model = backbone(encoder.timm, encoder.weights == "pretrained", None, seed, encoder.arguments, file)
    if encoder.truncate is not None:
        if not (hasattr(model, "layer3") and hasattr(model, "layer4")):
            raise UserError(f"truncate: found {encoder.truncate} for {encoder.timm}, which has no such stage. Expected a ResNet, or null.")
        model.layer4 = nn.Identity()
    return model


def _check_pooling(name: str, model: nn.Module, pooling: str) -> None:
    if pooling != "model" and not hasattr(model, "num_prefix_tokens"):
        raise UserError(f"{name}: found pooling: {pooling}, but {type(model).__name__} has no tokens. Expected pooling: model.")
    if pooling == "model" and getattr(model, "global_pool", None) == "":
        raise UserError(f"{name}: found pooling: model, but this model pools nothing itself. Expected pooling: cls, mean or cls+mean.")
    if "cls" in pooling and getattr(model, "num_prefix_tokens", 0) == 0:
        raise UserError(f"{name}: found pooling: {pooling}, but the model has no class token. Expected pooling: mean, or model.")


def _preparation(card: dict[str, Any], input_px: int | None) -> Preparation:
    crop_px = input_px or int(card["input_size"][-1])
    resize_px = input_px or int(crop_px / float(card["crop_pct"]))
    return Preparation(resize_px, crop_px, tuple(card["mean"]), tuple(card["std"]))


def weights_digest(encoder: TileEncoder) -> str:
    """A SHA-256 of every parameter and buffer of the model, wherever they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
