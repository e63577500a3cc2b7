"""AdamW for many nets at once, each at its own place of its own schedule; and that schedule.

Learning rate: a linear warm-up and a cosine to its end. Weight decay: a cosine. Both are set anew at every step (Campanella et al. 2023).
Matrices decay, biases do not.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import torch

from microtome.config import Gma
from microtome.gma_model import Nets
from microtome.training_schedules import cosine

BETAS, EPS = (0.9, 0.999), 1e-8  # torch's


def step_schedule(gma: Gma, slides: int) -> Iterator[tuple[float, float]]:
    """The learning rate and the weight decay of each step; an epoch has as many steps as there are training slides."""
    steps, warmup_steps = gma.epochs * slides, gma.warmup_epochs * slides
    for step in range(steps):
        weight_decay = cosine(step, steps, gma.weight_decay, gma.weight_decay_end)
        yield cosine(step, steps, gma.lr, gma.lr_end, warmup_steps), weight_decay


class Optimizer(Protocol):
    """Applies the gradients of all nets."""

    def begin_epoch(self) -> None:
        """Called before the first step of an epoch."""

    def step(self, number: int) -> None:
        """Apply the gradients of step `number` of the epoch, from 0."""


def optimizer_of(nets: Nets, gma: Gma, slides: Sequence[int]) -> Optimizer:
    """Torch's own for one net on a CPU, else one for all nets; `slides`: how many each net trains on."""
    one = len(slides) == 1 and nets.device.type == "cpu"
    return OfOneNet(nets, gma, slides[0]) if one else OfAllNets(nets, gma, slides)


class OfOneNet:
    """Torch's fused AdamW over two tensors, the matrices and the biases."""

    def __init__(self, nets: Nets, gma: Gma, slides: int) -> None:
        self.schedule = step_schedule(gma, slides)
        end = nets.weights.decayed
        groups = []
        for part in (slice(0, end), slice(end, None)):
            weights = nets.weights.flat[0, part]
            weights.grad = nets.gradients.flat[0, part]
            groups.append({"params": [weights]})
        self.adamw = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=EPS, weight_decay=0.0, fused=True)

    def begin_epoch(self) -> None:
        """Nothing to prepare."""

    def step(self, number: int) -> None:
        """Apply the gradients."""
        matrices, biases = self.adamw.param_groups
        matrices["lr"], matrices["weight_decay"] = next(self.schedule)
        biases["lr"] = matrices["lr"]
        self.adamw.step()


class OfAllNets:
    """A handful of calls for all nets. A net with fewer slides than others idles through the last steps of an epoch: nothing of it moves.

    What depends on the step is on the device before an epoch begins, so that no step waits for the host.
    """

    def __init__(self, nets: Nets, gma: Gma, slides: Sequence[int]) -> None:
        self.weights, self.gradients, self.decayed = nets.weights.flat, nets.gradients.flat, nets.weights.decayed
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)  # moments
        self.slides, self.epoch = list(slides), 0
        self.schedules = [step_schedule(gma, count) for count in slides]

    def begin_epoch(self) -> None:
        """Send the epoch's schedules to the device."""
        values = np.zeros((5, max(self.slides), len(self.slides)))  # decay, size, root, and how far each moment moves
        values[[0, 2]] = 1
        for net, (schedule, count) in enumerate(zip(self.schedules, self.slides, strict=True)):
            lr, weight_decay = np.array(list(islice(schedule, count))).T
            steps = self.epoch * count + 1 + np.arange(count)
            moved = [1 - lr * weight_decay, -lr / (1 - BETAS[0] ** steps), (1 - BETAS[1] ** steps) ** -0.5]
            values[:, :count, net] = [*moved, np.full(count, 1 - BETAS[0]), np.full(count, 1 - BETAS[1])]
        self.values = torch.from_numpy(values).to(self.weights)[..., None]
        self.epoch += 1

    def step(self, number: int) -> None:
        """Apply the gradients, and leave something else in their place."""
        decay, size, root, move_first, move_second = self.values[:, number]  # [nets, 1]
        self.first.lerp_(self.gradients, move_first)
        self.second.lerp_(self.gradients.square_(), move_second)
        torch.sqrt(self.second, out=self.gradients).mul_(root).add_(EPS)
        torch.div(self.first, self.gradients, out=self.gradients)
        self.weights[:, : self.decayed].mul_(decay)
        self.weights.addcmul_(self.gradients, size)
