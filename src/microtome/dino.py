"""DINO: self-distillation with no labels (Caron et al. 2021), as its official code does it.

Views are numbered 0 and 1 (global), 2 ... (local). Logits are [views, n, K], K the head's outputs (`out_dim`).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from microtome import vit
from microtome.algorithm import Tiles, gradients, norms_of
from microtome.augment import View, views
from microtome.compiled import compiled
from microtome.distributed import sum_over_processes
from microtome.memory import pinned
from microtome.recipes import Dino, RunRecipe
from microtome.training_schedules import Length, Rates, dino_rates


class DinoHead(nn.Module):
    """A three-layer perceptron to a bottleneck, L2 normalisation, and a linear layer with weights of fixed or learned norm."""

    def __init__(self, dim: int, recipe: Dino) -> None:
        super().__init__()
        hidden, bottleneck = recipe.head_hidden, recipe.head_bottleneck
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = nn.Linear(bottleneck, recipe.out_dim, bias=False)
        self.last_norm = nn.Parameter(torch.ones(recipe.out_dim, 1), requires_grad=not recipe.norm_last_layer)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [m, d] to logits [m, K]: never rounded to bf16, which is up to 0.05 nats at a temperature of 0.04."""
        weight = self.last_layer.weight
        bottleneck = self.mlp(features).to(weight.dtype)
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(F.normalize(bottleneck, dim=-1), self.last_norm * F.normalize(weight, dim=1))


class DinoNetwork(nn.Module):
    """A ViT and its head; student and teacher are one each."""

    def __init__(self, backbone: Any, head: DinoHead) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.head = head

    def forward(self, crops: list[torch.Tensor], drop_path: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """Logits of all crops: one forward of the ViT a resolution, one of the head. Crops: a tensor [v n, 3, s, s] a resolution."""
        features = []
        for images, numbers in zip(crops, drop_path, strict=True):
            vit.set_drop_path(self.backbone, numbers)
            features.append(vit.class_token(self.backbone, images))
        logits: torch.Tensor = self.head(torch.cat(features))
        return logits


@dataclass(frozen=True)
class Prepared:
    """The views of a micro-batch: a tensor of the two global ones, then one of the local ones, if any; the student's drop-path numbers."""

    crops: list[torch.Tensor]
    drop_path: list[torch.Tensor]
    n: int

    def by_resolution(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """All crops and their numbers, together where local crops are as large as global ones: one forward a resolution."""
        if len({images.shape[-1] for images in self.crops}) == len(self.crops):
            return self.crops, self.drop_path
        return [torch.cat(self.crops)], [torch.cat(self.drop_path)]


class DinoAlgorithm(nn.Module):
    """Student, teacher and centre; see `Algorithm` for its methods."""

    betas = (0.9, 0.999)
    pooling = "cls"
    center: torch.Tensor

    def __init__(self, recipe: Dino, run: RunRecipe, length: Length, seed: int) -> None:
        super().__init__()
        self.recipe, self.run, self.length, self.seed = recipe, run, length, seed
        self.crop_px, self.out_dim = recipe.global_crops_px, recipe.out_dim
        backbone = vit.build_vit(run.model, run.init == "pretrained", recipe.global_crops_px, seed, recipe.drop_path_rate)
        vit.check_size("local_crops_px", recipe.local_crops_px, vit.patch_px(backbone), run.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            if run.init == "random":
                nn.init.trunc_normal_(backbone.get_parameter("cls_token"), std=0.02)
            self.network = DinoNetwork(backbone, DinoHead(backbone.num_features, recipe))
        self.teacher = copy.deepcopy(self.network).requires_grad_(False)
        self.register_buffer("center", torch.zeros(recipe.out_dim))
        global_views = [
            View(recipe.global_crops_px, recipe.global_crops_scale, colour=True, blur_probability=1.0),
            View(recipe.global_crops_px, recipe.global_crops_scale, colour=True, blur_probability=0.1, solarize_probability=0.2),
        ]
        local_view = View(recipe.local_crops_px, recipe.local_crops_scale, colour=True, blur_probability=0.5)
        numbered = list(enumerate(global_views + [local_view] * recipe.local_crops))
        self.views = [group for group in (numbered[:2], numbered[2:]) if group]
        self.compiled = False
        self._forget()

    def _forget(self) -> None:
        """Start the sums over the micro-batches of a step."""
        self._logits_sum: torch.Tensor | float = 0.0
        self._probabilities_sum: torch.Tensor | float = 0.0
        self._entropy_sum: torch.Tensor | float = 0.0

    def compile_beside(self) -> None:
        """Compile augmentation, teacher and loss."""
        self.compiled = True
        self.teacher.compile(dynamic=False)

    @property
    def encoder(self) -> Any:
        """The teacher's backbone."""
        return self.teacher.backbone

    def rates(self, step: int) -> Rates:
        """Learning rate, weight decay, momentum and teacher temperature."""
        return dino_rates(step, self.length, self.recipe, self.run)

    def prepare(self, tiles: Tiles) -> Prepared:
        """Augmented views and drop-path numbers."""
        where = (self.seed, tiles.pseudo_epoch, tiles.positions)
        crops = [views(tiles.images, group, *where, self.recipe.mean, self.recipe.std, self.compiled) for group in self.views]
        device = tiles.images.device
        drop_path = [pinned(self._drop_path(group, *where), device).to(device, non_blocking=True) for group in self.views]
        return Prepared(crops, drop_path, len(tiles.positions))

    def _drop_path(self, group: list[tuple[int, View]], *where: Any) -> torch.Tensor:
        backbone = self.network.backbone
        return torch.from_numpy(np.concatenate([vit.draw_drop_path(backbone, number, *where) for number, _ in group]))

    def loss(self, network: nn.Module, prepared: Prepared, rates: Rates) -> torch.Tensor:
        """Cross-entropy of the student's views with the teacher's two global ones."""
        with torch.no_grad():
            teacher = self.teacher(prepared.crops[:1], [None]).unflatten(0, (2, prepared.n))
        student = network(*prepared.by_resolution()).unflatten(0, (-1, prepared.n))
        with torch.autocast(student.device.type, enabled=False):  # bf16 has 8 bits: too few for sums over K
            judge = compiled(judged) if self.compiled else judged
            found: Judged = judge(student, teacher, self.center, rates.teacher_temp or 1.0, self.recipe.student_temp)
        self._logits_sum += found.logits
        self._probabilities_sum += found.probabilities
        self._entropy_sum += found.entropy
        return found.loss

    def before_update(self, step: int) -> torch.Tensor:
        """Clip each tensor's gradient, and withhold the last layer's in the first pseudo-epochs."""
        norm: torch.Tensor = torch.linalg.vector_norm(clip_each_(gradients(self.network), self.recipe.clip_grad))
        if step < self.length.of(self.recipe.freeze_last_layer_epochs):
            for parameter in (self.network.head.last_layer.weight, self.network.head.last_norm):
                parameter.grad = None
        return norm

    @torch.no_grad()
    def after_update(self, rates: Rates, global_batch: int) -> dict[str, torch.Tensor]:
        """The teacher follows the student, the centre the teacher's logits over the global batch."""
        momentum = 1.0 if rates.momentum is None else rates.momentum
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.network.parameters()), 1 - momentum)
        sums = torch.stack([torch.as_tensor(self._logits_sum), torch.as_tensor(self._probabilities_sum)])
        logits_mean, probabilities_mean = sum_over_processes(sums) / (2 * global_batch)
        sharpness = sum_over_processes(torch.as_tensor(self._entropy_sum)) / (2 * global_batch)
        self.center.lerp_(logits_mean, 1 - self.recipe.center_momentum)
        self._forget()
        whole = entropy(probabilities_mean)
        return {"entropy": whole, "spread": whole - sharpness}


class Judged(NamedTuple):
    """The loss of a micro-batch, and sums over its global views: of the teacher's logits [K] and probabilities [K], of their entropy."""

    loss: torch.Tensor
    logits: torch.Tensor
    probabilities: torch.Tensor
    entropy: torch.Tensor


def judged(student: torch.Tensor, teacher: torch.Tensor, center: torch.Tensor, teacher_temp: float, student_temp: float) -> Judged:
    """What comes of the logits of student [v, n, K] and teacher [2, n, K]."""
    targets = teacher_probabilities(teacher, center, teacher_temp)
    loss = dino_loss(student, targets, student_temp)
    return Judged(loss, teacher.sum(dim=(0, 1)), targets.sum(dim=(0, 1)), entropy(targets).sum())


def teacher_probabilities(logits: torch.Tensor, center: torch.Tensor, temperature: float) -> torch.Tensor:
    """softmax((logits - center) / temperature) over the last axis."""
    return torch.softmax((logits - center) / temperature, dim=-1)


def dino_loss(student: torch.Tensor, targets: torch.Tensor, student_temp: float) -> torch.Tensor:
    """The mean over samples and pairs of different views of the cross-entropy -sum_k target_k log softmax(student / temp)_k.

    Args:
        student: logits [v, n, K] of all views, the global ones first.
        targets: the teacher's probabilities [2, n, K] of the global views.
        student_temp: temperature.
    """
    log_probabilities = torch.log_softmax(student / student_temp, dim=-1)
    same = (targets * log_probabilities[: len(targets)]).sum()
    different = (targets.sum(dim=0) * log_probabilities).sum() - same
    return -different / (len(targets) * (len(student) - 1)) / student.shape[1]


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Shannon entropy in nats over the last axis."""
    values: torch.Tensor = torch.special.entr(probabilities)
    return values.sum(dim=-1)


def clip_each_(tensors: list[torch.Tensor], max_norm: float) -> torch.Tensor:
    """Scale each tensor on its own to a norm of at most `max_norm` (0: leave them); returns the norms before. No host synchronisation."""
    norms = norms_of(tensors)
    if max_norm > 0:
        torch._foreach_mul_(tensors, (max_norm / (norms + 1e-6)).clamp_(max=1.0).unbind())
    return norms
