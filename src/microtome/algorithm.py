"""What the training loop asks of an algorithm. A third one (DINOv2, say) is a class like `DinoAlgorithm`, and a line in `pretrain`."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from microtome.recipes import Dino, Mae
from microtome.training_schedules import Rates


@dataclass(frozen=True)
class Tiles:
    """Tiles of one micro-batch on the training device: uint8 [n, tile_px, tile_px, 3], and where they stand in their schedule."""

    images: torch.Tensor
    positions: NDArray[np.int64]
    pseudo_epoch: int


class Algorithm(Protocol):
    """A method of pretraining. Everything it learns is in `state_dict()`."""

    betas: tuple[float, float]
    crop_px: int  # the side of the images whose position embedding the encoder holds
    pooling: str  # what of the encoder's tokens is meant as the image's features: `cls` or `mean`

    @property
    def recipe(self) -> Dino | Mae:
        """What it follows."""

    @property
    def out_dim(self) -> int | None:
        """K of a head whose outputs are compared, for the monitor."""

    @property
    def network(self) -> Any:
        """What the optimizer trains; where several processes train, it is wrapped to average gradients."""

    @property
    def encoder(self) -> Any:
        """The timm ViT that is released."""

    def compile_beside(self) -> None:
        """Compile what works beside the network: augmentation, loss, teacher. Results change within rounding."""

    def rates(self, step: int) -> Rates:
        """Learning rate and whatever else changes at a step of the schedule."""

    def prepare(self, tiles: Tiles) -> Any:
        """Everything drawn for these tiles: augmented views, masks, drop-path."""

    def loss(self, network: nn.Module, prepared: Any, rates: Rates) -> torch.Tensor:
        """The mean loss of a micro-batch, by a forward of `network` (`self.network`, maybe wrapped)."""

    def before_update(self, step: int) -> torch.Tensor:
        """Change the gradients (clip, freeze); returns their norm before that."""

    def after_update(self, rates: Rates, global_batch: int) -> dict[str, torch.Tensor]:
        """Follow the optimizer's step (teacher, centre); returns values for the curve."""

    def state_dict(self) -> dict[str, Any]:
        """All weights and statistics, by name."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """The opposite of `state_dict`."""


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Two groups: weights, which decay, and biases and one-dimensional parameters, which do not (both official codes)."""
    trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    fixed = [parameter for name, parameter in trained if name.endswith(".bias") or parameter.ndim == 1]
    decayed = [parameter for name, parameter in trained if not (name.endswith(".bias") or parameter.ndim == 1)]
    return [{"params": decayed}, {"params": fixed, "weight_decay": 0.0}]


def gradients(network: nn.Module) -> list[torch.Tensor]:
    """The gradients there are."""
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def norms_of(tensors: list[torch.Tensor]) -> torch.Tensor:
    """The L2 norm of each tensor, [tensors]: that of these norms is that of all tensors together."""
    return torch.stack(list(torch._foreach_norm(tensors)))
