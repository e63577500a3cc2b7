"""Training gated attention: one run, and all runs of a task over the cores of this machine.

A step is one slide with all its tiles (Campanella et al. 2023): AdamW, unweighted cross-entropy, learning rate with a linear warm-up
and a cosine to its end, weight decay along a cosine, both set anew at every step. Epochs run from 1; epoch 0 is the untrained net.
"""

import dataclasses
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from microtome.config import Gma
from microtome.decisions import youden_threshold
from microtome.errors import UserError
from microtome.feature_store import Bags
from microtome.gma_model import GatedAttention, decayed_and_not
from microtome.orphans import die_with_parent
from microtome.settings import GmaSettings
from microtome.statistics import macro_auc
from microtome.training_schedules import cosine


class Split(NamedTuple):
    """One side each of a Monte-Carlo split, as numbers of slides in the bags."""

    number: int
    train: NDArray[np.int64]
    val: NDArray[np.int64]


class Epoch(NamedTuple):
    """What is measured after an epoch: mean loss of its training steps, mean loss and AUC on the validation slides.

    Of more than two classes it is the macro average of one class against the rest.
    """

    epoch: int
    loss: float | None
    val_loss: float
    auc: float


class Trained(NamedTuple):
    """What is kept of a run: its epochs, and of the last one the validation slides' probabilities, [slides of `split.val`, classes],
    and the threshold on class 1 that would have been chosen on the training slides (NaN of more than two classes); and
    the attention of the validation slides' tiles, one slide after another, [tiles of `split.val`]."""

    split: Split
    replica: int
    epochs: list[Epoch]
    probabilities: NDArray[np.float64]
    threshold: float
    attention: NDArray[np.float32]


def train(bags: Bags, split: Split, replica: int, settings: GmaSettings, device: torch.device) -> Trained:
    """One run, from epoch 0 to the last. Everything random in it follows from the seed, the split and the replica."""
    gma = settings.gma
    random = np.random.default_rng([settings.seed, split.number, replica])
    model = GatedAttention(bags.dim, gma.hidden, gma.attention, bags.classes, gma.dropout, random).to(device)
    weights, biases = decayed_and_not(model)
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, fused=True)
    schedule = step_schedule(gma, len(split.train))
    measured, probabilities = evaluate(model, bags, split.val)
    epochs = [Epoch(0, None, *measured)]
    for epoch in range(1, gma.epochs + 1):
        loss = _train_epoch(model, optimizer, bags, random.permutation(split.train), schedule)
        if not np.isfinite(loss):
            raise UserError(f"split {split.number}, replica {replica}: the loss is {loss} in epoch {epoch}. Try a smaller gma.lr.")
        measured, probabilities = evaluate(model, bags, split.val)
        epochs.append(Epoch(epoch, loss, *measured))
    threshold = training_threshold(model, bags, split.train)
    return Trained(split, replica, epochs, probabilities, threshold, attention_of(model, bags, split.val))


def training_threshold(model: GatedAttention, bags: Bags, slides: NDArray[np.int64]) -> float:
    """Youden's threshold on the training slides; NaN where there are more than two classes: one threshold cannot part them."""
    if bags.classes > 2:
        return float("nan")
    _, fitted = evaluate(model, bags, slides)
    return youden_threshold(bags.targets[slides].cpu().numpy(), fitted[:, 1])


def step_schedule(gma: Gma, slides: int) -> Iterator[tuple[float, float]]:
    """The learning rate and the weight decay of each step; an epoch has as many steps as there are training slides."""
    steps, warmup_steps = gma.epochs * slides, gma.warmup_epochs * slides
    for step in range(steps):
        weight_decay = cosine(step, steps, gma.weight_decay, gma.weight_decay_end)
        yield cosine(step, steps, gma.lr, gma.lr_end, warmup_steps), weight_decay


def _train_epoch(
    model: GatedAttention, optimizer: torch.optim.Optimizer, bags: Bags, order: NDArray[np.int64], schedule: Iterator[tuple[float, float]]
) -> float:
    model.train()
    losses: list[Tensor] = []
    for slide in order:
        decayed, not_decayed = optimizer.param_groups
        decayed["lr"], decayed["weight_decay"] = next(schedule)
        not_decayed["lr"] = decayed["lr"]
        logits, _ = model(bags.tiles(slide))
        loss = cross_entropy(logits, bags.targets[slide])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


@torch.inference_mode()
def evaluate(model: GatedAttention, bags: Bags, slides: NDArray[np.int64]) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """Mean loss and AUC over `slides`, and their probabilities, [slides, classes]."""
    model.eval()
    logits = torch.stack([model(bags.tiles(slide))[0] for slide in slides]).double()
    targets = bags.targets[slides]
    probabilities = torch.softmax(logits, dim=1).cpu().numpy()
    return (float(cross_entropy(logits, targets)), macro_auc(targets.cpu().numpy(), probabilities)), probabilities


@torch.inference_mode()
def attention_of(model: GatedAttention, bags: Bags, slides: NDArray[np.int64]) -> NDArray[np.float32]:
    """The attention of the tiles of `slides`, one slide after another."""
    model.eval()
    return torch.cat([model(bags.tiles(slide))[1] for slide in slides]).cpu().numpy()


def train_all(bags: Bags, splits: list[Split], settings: GmaSettings, workers: int) -> Iterator[Trained]:
    """Every split x replica, in that order, on the GPU if there is one, else over `workers` processes that share the bags."""
    todo = [(split, replica) for split in splits for replica in range(1, settings.gma.replicas + 1)]
    if torch.cuda.is_available():
        device = torch.device("cuda")
        bags = dataclasses.replace(bags, features=bags.features.to(device), targets=bags.targets.to(device))
        yield from (train(bags, split, replica, settings, device) for split, replica in todo)
        return
    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")  # the features are shared, not copied; workers use nothing that has threads
    with ProcessPoolExecutor(min(workers, len(todo)), fork, _share, (bags, settings)) as pool:
        yield from pool.map(_train_shared, todo)


_SHARED: list[tuple[Bags, GmaSettings]] = []  # what a worker process was started with


def _share(bags: Bags, settings: GmaSettings) -> None:
    die_with_parent()
    _SHARED.append((bags, settings))


def _train_shared(run: tuple[Split, int]) -> Trained:
    bags, settings = _SHARED[-1]
    return train(bags, *run, settings, torch.device("cpu"))
