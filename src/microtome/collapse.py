"""Signs that training has collapsed, judged as configured: the entropy of what the teacher puts out, and the rank of features."""

import math
import sys

import numpy as np
import torch
from torch import nn

from microtome import vit
from microtome.augment import normalise
from microtome.crops import resized_crops
from microtome.errors import UserError
from microtome.recipes import Monitor
from microtome.section import Rgb


def rankme(features: torch.Tensor) -> torch.Tensor:
    """RankMe (Garrido et al. 2023): the exponential of the entropy of the normalised singular values of features [n, d]."""
    singular = torch.linalg.svdvals(features.double().nan_to_num(0.0, 0.0, 0.0))  # a loss that is not finite is reported elsewhere
    share = singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny)
    entropy: torch.Tensor = torch.special.entr(share).sum()
    return entropy.exp()


def signs(monitor: Monitor, values: dict[str, float], out_dim: int | None) -> list[str]:
    """What speaks for a collapse, in words.

    Args:
        monitor: the thresholds.
        values: of the curve: `entropy` (nats, of the teacher's mean output), `rankme`, `loss`.
        out_dim: K, the head's outputs; None where there is no head.
    """
    found = []
    if out_dim is not None and "entropy" in values:
        entropy, lowest = values["entropy"], monitor.min_entropy_fraction * math.log(out_dim)
        if entropy < lowest:
            found.append(f"the teacher's mean output has an entropy of {entropy:.3g} nats, less than {lowest:.3g}: one output takes all")
    if "rankme" in values and values["rankme"] < monitor.min_rankme:
        found.append(f"RankMe of the probe is {values['rankme']:.3g}, less than {monitor.min_rankme:g}: the features are almost all alike")
    if found and out_dim is not None:
        found.append(f"the loss is {values['loss']:.4g}; ln {out_dim} = {math.log(out_dim):.4g} is that of outputs all alike")
    return found


def judge(monitor: Monitor, values: dict[str, float], out_dim: int | None, where: str) -> None:
    """Warn of a collapse, or stop: raises UserError where `monitor.action` is `stop`."""
    found = signs(monitor, values, out_dim)
    if not found:
        return
    text = f"Training seems to have collapsed at {where}: {'; '.join(found)}."
    if monitor.action == "stop":
        raise UserError(f"{text} Lower the learning rate or the temperature, freeze the last layer longer, or set monitor.action.")
    print(f"microtome: {text}", file=sys.stderr, flush=True)


@torch.no_grad()
def probe_features(encoder: nn.Module, images: torch.Tensor, size_px: int, mean: Rgb, std: Rgb, pooling: str) -> torch.Tensor:
    """Features [n, d] of whole tiles uint8 [n, h, w, 3], resized to `size_px`: the class token (`cls`), or the mean of the patches."""
    whole = np.tile([0, 0, images.shape[1], images.shape[2]], (len(images), 1))
    resized = resized_crops(images, whole, np.zeros(len(images), dtype=np.bool_), size_px)
    tokens = vit.tokens(encoder, normalise(resized.div_(255), mean, std)).float()
    return tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
