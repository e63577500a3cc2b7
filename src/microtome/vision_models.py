"""Vision backbones from timm: the only module that imports timm, and torchvision behind it.

A CPU build of torch beside PyPI's torchvision cannot load torchvision's compiled operators, and `import torchvision` dies on the missing
schema of `nms`. `_mend_torchvision` loads them where that works (CUDA builds), and only where it fails declares the two schemas that
torchvision's Python code asks for when it is imported; the operators themselves are not there then, and nothing here calls them.
"""

import importlib.util
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from microtome.errors import UserError
from microtome.explain import did_you_mean
from microtome.model_hub import why_not

MAE_DECODER = "decoder_"


def _mend_torchvision() -> list[Any]:
    """Make `import torchvision` work. What is returned must be kept alive: it owns the declared schemas."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise UserError("torchvision is not installed: install the project's requirements (`make install`).")
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            cast("Any", torch.ops).load_library(str(library))
            return []
        except OSError:  # it wants libtorch_cuda, which a CPU build of torch does not have
            continue
    declared = cast("Any", torch.library).Library("torchvision", "FRAGMENT")
    declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return [declared]


_KEPT_ALIVE = _mend_torchvision()

import timm  # noqa: E402  (the mend comes first)
from timm.layers.attention import Attention  # noqa: E402
from timm.layers.patch_embed import PatchEmbed  # noqa: E402
from timm.models.vision_transformer import Block, VisionTransformer  # noqa: E402


def backbone(
    name: str,
    pretrained: bool,
    img_size: int | None = None,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    weights: Path | None = None,
) -> nn.Module:
    """A timm model without its classifier: `forward` gives pooled features `[n, d]`, a ViT's `forward_features` its tokens.

    Weights and initialisation do not touch torch's global random state: `random` weights follow from `seed` alone. Weights are loaded
    strictly: a tensor of the model that they do not have is an error.

    Args:
        name: a timm model, such as `vit_small_patch16_224` or `resnet50.tv_in1k`; `hf-hub:owner/name`; or `local-dir:folder`.
        pretrained: with the published weights, which may need the network once, or the folder's.
        img_size: side in px of the images whose position embedding is stored (ViT only; None: the model's own).
        seed: of the initialisation.
        arguments: of the model's function in timm, beside what its name says; an `mlp_layer` is named as in `timm.layers`.
        weights: a file of weights (.safetensors, or a .pth that holds tensors alone) in place of the published ones.

    Raises:
        UserError: timm has no such model, or its weights cannot be had or are of another model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            options = _options(name, img_size, arguments or {})
            if weights is not None:
                return _with_file(name, options, weights)
            # With its classifier, which is then taken off: timm loads a model strictly only where their classes are as many.
            model = timm.create_model(name, pretrained, **options) if pretrained else timm.create_model(name, num_classes=0, **options)
            cast("Any", model).reset_classifier(0)
            return model
        except UserError:
            raise
        except Exception as error:  # of timm, the hub's client, torch and the network: told with what to do
            raise UserError(why_not(name, error, *_published(name))) from error


def _published(name: str) -> tuple[str | None, list[str]]:
    """The repository of a timm model's published weights (of the tag that timm takes by itself, where `name` has none), and all names of
    it that have weights."""
    tagged = timm.list_pretrained(f"{name.split('.')[0]}.*")
    known = timm.models.get_pretrained_cfg(name) if name in tagged or "." not in name else None
    return (str(known.hf_hub_id) if known and known.hf_hub_id else None), tagged


def _options(name: str, img_size: int | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    source, where = timm.models.parse_model_name(name)
    if source == "hf-hub":
        architecture = timm.models.load_model_config_from_hf(where)[1]
    elif source == "local-dir":
        architecture = str(json.loads((Path(where) / "config.json").read_text())["architecture"])
    else:
        architecture = name.split(".")[0]
    if not timm.is_model(architecture if source else name):
        hint = did_you_mean(name, timm.list_models())
        raise UserError(f"Model: found {name!r}, expected a model that timm {timm.__version__} knows, such as vit_small_patch16_224{hint}")
    options = {key: getattr(timm.layers, value) if key == "mlp_layer" else value for key, value in arguments.items()}
    if timm.models.is_model_in_modules(architecture, {"vision_transformer", "deit"}):
        options.setdefault("dynamic_img_size", True)
        if img_size is not None:
            options["img_size"] = img_size
    return options


def _with_file(name: str, options: Mapping[str, Any], weights: Path) -> nn.Module:
    """A model with the tensors of a file as timm, DINO and MAE write them: all of its tensors must be there, and no others."""
    overlay = {"state_dict": _without_heads(name, timm.models.load_state_dict(str(weights))), "num_classes": 0}
    model = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **options)
    cast("Any", model).pretrained_cfg.pop("state_dict")
    return model


def _without_heads(name: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """The backbone of what a file holds: no classifier, of DINO's student and teacher the teacher without its head, no decoder of MAE's."""
    found = {key.removeprefix("module."): value for key, value in tensors.get("teacher", tensors).items()}
    prefix = "backbone." if any(key.startswith("backbone.") for key in found) else ""
    classifier = cast("Any", timm.models.get_pretrained_cfg(name)).classifier or ()
    heads = [f"{head}." for head in ((classifier,) if isinstance(classifier, str) else classifier)]
    inside = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    return {key: value for key, value in inside.items() if not key.startswith((MAE_DECODER, *heads))}


def is_plain_vit(model: nn.Module) -> bool:
    """Whether a timm model is what the papers train: one class token, position embeddings for it and for every patch, the pixels of a patch
    embedded by themselves, attention and perceptron by turns (each with its stochastic depth), and a final LayerNorm of all tokens.
    """
    if not isinstance(model, VisionTransformer) or not isinstance(model.patch_embed, PatchEmbed) or model.pos_embed is None:
        return False
    class_token_alone = model.cls_token is not None and model.num_prefix_tokens == 1
    places = model.pos_embed.shape[1] == model.patch_embed.num_patches + 1
    by_turns = all(hasattr(block, "drop_path1") and hasattr(block, "drop_path2") for block in model.blocks)
    return class_token_alone and places and by_turns and isinstance(model.norm, nn.LayerNorm)


def vit_block(dim: int, heads: int) -> nn.Module:
    """A transformer block as in timm's ViTs: tokens [n, tokens, dim] to the same; LayerNorm with eps 1e-6, bias in qkv, ratio 4."""
    return Block(dim, heads, qkv_bias=True, norm_layer=cast("Any", partial(nn.LayerNorm, eps=1e-6)))


def only_class_token(model: nn.Module) -> None:
    """Have the last block of timm's plain ViT compute its class token alone, the same within rounding: nothing else of it is asked for.

    Other models are left as they are. It saves the larger part of a block: a fifteenth of ViT-S/16.
    """
    last = cast("Any", model).blocks[-1]
    if _is_plain(last):
        cast("Any", last).forward = partial(class_token_of, last)


def _is_plain(block: nn.Module) -> bool:
    return type(block) is Block and type(block.attn) is Attention and block.attn.gate is None


def class_token_of(block: Any, tokens: Tensor) -> Tensor:
    """A block's class token [n, 1, d] out of all tokens [n, tokens, d]: its queries are one, its keys and values are all."""
    if not _is_plain(block):
        return cast("Tensor", block(tokens)[:, :1])
    attention, normed = block.attn, block.norm1(tokens)
    weight, bias, dim = attention.qkv.weight, attention.qkv.bias, tokens.shape[2]
    of_query, of_others = (None, None) if bias is None else (bias[:dim], bias[dim:])
    n, heads = len(tokens), attention.num_heads
    query = linear(normed[:, :1], weight[:dim], of_query).view(n, 1, heads, -1).transpose(1, 2)
    key, value = linear(normed, weight[dim:], of_others).view(n, -1, 2, heads, attention.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = scaled_dot_product_attention(attention.q_norm(query), attention.k_norm(key), value)
    token = tokens[:, :1] + block.drop_path1(block.ls1(attention.proj(attention.norm(mixed.transpose(1, 2).flatten(2)))))
    return cast("Tensor", token + block.drop_path2(block.ls2(block.mlp(block.norm2(token)))))


def normalization(model: nn.Module) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of RGB in 0..1 that a timm model was trained with."""
    config = cast("dict[str, Any]", model.pretrained_cfg)
    return tuple(config["mean"]), tuple(config["std"])
