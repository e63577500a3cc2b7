"""Signs that training has collapsed, judged as configured: entropy and spread of the teacher's outputs, the loss, the rank of features."""

import math

import numpy as np
import torch
from torch import nn

from microtome import vit
from microtome.colour import normalise
from microtome.crops import resized_crops
from microtome.errors import UserError
from microtome.recipes import Dino, Mae, Monitor
from microtome.section import Rgb
from microtome.training_schedules import Length


def rankme(features: torch.Tensor) -> torch.Tensor:
    """RankMe (Garrido et al. 2023): the exponential of the entropy of the normalised singular values of features [n, d]."""
    singular = torch.linalg.svdvals(features.double().nan_to_num(0.0, 0.0, 0.0))  # a loss that is not finite is reported elsewhere
    share = singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny)
    entropy: torch.Tensor = torch.special.entr(share).sum()
    return entropy.exp()


def settled_from(recipe: Dino | Mae, length: Length) -> int:
    """The step from which outputs must differ: the learning rate's warm-up is over, and the last layer not frozen any more."""
    frozen = recipe.freeze_last_layer_epochs if isinstance(recipe, Dino) else 0.0
    return length.of(max(recipe.warmup_epochs, frozen))


def signs(monitor: Monitor, values: dict[str, float], out_dim: int | None, settled: bool) -> list[str]:
    """What speaks for a collapse, in words.

    Args:
        monitor: the thresholds.
        values: of the curve: `entropy` and `spread` (nats, of the teacher's outputs), `rankme`, `loss`.
        out_dim: K, the head's outputs; None where there is no head.
        settled: whether outputs must differ by now: at the start they are as good as alike, and the loss is about ln K.
    """
    found = []
    if out_dim is not None and "entropy" in values:
        entropy, lowest = values["entropy"], monitor.min_entropy_fraction * math.log(out_dim)
        if entropy < lowest:
            found.append(f"the teacher's mean output has an entropy of {entropy:.3g} nats, less than {lowest:.3g}: one output takes all")
        if settled:
            found += _alike(monitor, values, math.log(out_dim))
    if "rankme" in values and values["rankme"] < monitor.min_rankme:
        found.append(f"RankMe of the probe is {values['rankme']:.3g}, less than {monitor.min_rankme:g}: the features are almost all alike")
    if found and out_dim is not None:
        found.append(f"the loss is {values['loss']:.4g}; ln {out_dim} = {math.log(out_dim):.4g} is that of outputs all alike")
    return found


def _alike(monitor: Monitor, values: dict[str, float], ln_k: float) -> list[str]:
    found, spread, loss = [], values["spread"], values["loss"]
    if spread < monitor.min_spread_fraction * ln_k:
        found.append(f"the spread of the teacher's outputs is {spread:.3g} nats, less than {monitor.min_spread_fraction * ln_k:.3g}")
    if loss > monitor.max_loss_fraction * ln_k:
        found.append(f"the loss is more than {monitor.max_loss_fraction * ln_k:.4g}: student and teacher tell no tile from another")
    return found


def judge(monitor: Monitor, values: dict[str, float], out_dim: int | None, settled: bool, where: str) -> str:
    """The warning of a collapse, "" where nothing speaks for one.

    Raises:
        UserError: something does, and `monitor.action` is `stop`.
    """
    found = signs(monitor, values, out_dim, settled)
    if not found:
        return ""
    text = f"Training seems to have collapsed at {where}: {'; '.join(found)}."
    if monitor.action == "stop":
        raise UserError(f"{text} Lower the learning rate or the temperature, freeze the last layer longer, or set monitor.action.")
    return text


@torch.no_grad()
def probe_features(encoder: nn.Module, images: torch.Tensor, size_px: int, mean: Rgb, std: Rgb, pooling: str) -> torch.Tensor:
    """Features [n, d] of whole tiles uint8 [n, h, w, 3], resized to `size_px`: the class token (`cls`), or the mean of the patches."""
    whole = np.tile([0, 0, images.shape[1], images.shape[2]], (len(images), 1))
    resized = resized_crops(images, whole, np.zeros(len(images), dtype=np.bool_), size_px)
    tokens = vit.tokens(encoder, normalise(resized.div_(255), mean, std)).float()
    return tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
