"""Vision backbones from timm: the only module that imports timm, and torchvision behind it.

A CPU build of torch beside PyPI's torchvision cannot load torchvision's compiled operators, and `import torchvision` dies on the missing
schema of `nms`. `_mend_torchvision` loads them where that works (CUDA builds), and only where it fails declares the two schemas that
torchvision's Python code asks for when it is imported; the operators themselves are not there then, and nothing here calls them.
"""

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from microtome.errors import UserError
from microtome.explain import did_you_mean


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
from timm.models.vision_transformer import Block  # noqa: E402


def backbone(name: str, pretrained: bool, img_size: int | None = None, seed: int = 0) -> nn.Module:
    """A timm model without its classifier: `forward` gives pooled features `[n, d]`, a ViT's `forward_features` its tokens.

    Weights and initialisation do not touch torch's global random state: `random` weights follow from `seed` alone.

    Args:
        name: a timm model, such as `vit_small_patch16_224` or `resnet50.tv_in1k`.
        pretrained: with timm's published weights, which may need the network once.
        img_size: side in px of the images whose position embedding is stored (ViT only; None: the model's own).
        seed: of the initialisation.

    Raises:
        UserError: timm has no such model, or its weights cannot be had.
    """
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise UserError(f"Model: found {name!r}, expected a model that timm {timm.__version__} knows, such as vit_small_patch16_224{hint}")
    options: dict[str, Any] = {"num_classes": 0}
    if timm.models.is_model_in_modules(name.split(".")[0], {"vision_transformer", "deit"}):
        options["dynamic_img_size"] = True
        if img_size is not None:
            options["img_size"] = img_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(name, pretrained=pretrained, **options)
        except Exception as error:
            if not pretrained:
                raise
            first_line = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"The published weights of {name!r} could not be had: {type(error).__name__}: {first_line}\n"
                "They are fetched from the Hugging Face hub once and kept in its cache (HF_HOME). Connect to the network, copy the cache "
                "here, or choose random weights (`weights: random` of an encoder, `init: random` of a run)."
            ) from error


def vit_block(dim: int, heads: int) -> nn.Module:
    """A transformer block as in timm's ViTs: tokens [n, tokens, dim] to the same; LayerNorm with eps 1e-6, bias in qkv, ratio 4."""
    return Block(dim, heads, qkv_bias=True, norm_layer=cast("Any", partial(nn.LayerNorm, eps=1e-6)))


def normalization(model: nn.Module) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of RGB in 0..1 that a timm model was trained with."""
    config = cast("dict[str, Any]", model.pretrained_cfg)
    return tuple(config["mean"]), tuple(config["std"])
