"""The benchmark of one encoder on one task: gated attention trained on every Monte-Carlo split, in replicas that differ by their seed.

A step is one slide with all its tiles (Campanella et al. 2023): AdamW, unweighted cross-entropy, learning rate with a linear warm-up
and a cosine to its end, weight decay along a cosine, both set anew at every step. Epochs run from 1; epoch 0 is the untrained net.
The reported number is the last epoch's, whatever the best was. On a CPU the runs spread over processes of one thread each; what comes
out does not depend on how many there are.
"""

import dataclasses
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from microtome.atomic import atomic_path, write_text
from microtome.command_line import run
from microtome.config import Gma, GmaSettings
from microtome.errors import UserError
from microtome.feature_store import Bags, read_bags
from microtome.gma_model import GatedAttention, decayed_and_not
from microtome.orphans import die_with_parent
from microtome.progress import progress
from microtome.splits import TRAIN, VAL
from microtome.statistics import auc
from microtome.training_schedules import cosine

CLASSES = 2


class Split(NamedTuple):
    """One side each of a Monte-Carlo split, as numbers of slides in the bags."""

    number: int
    train: NDArray[np.int64]
    val: NDArray[np.int64]


class Epoch(NamedTuple):
    """What is measured after an epoch: mean loss of its training steps, mean loss and AUC on the validation slides."""

    epoch: int
    loss: float | None
    val_loss: float
    auc: float


def read_splits(table: Path, bags: Bags) -> list[Split]:
    """The splits of `table` restricted to the slides of `bags`.

    Raises:
        UserError: a split in which a class is missing from a side, because slides have no features.
    """
    columns = pd.read_csv(table, dtype={"slide": str}).set_index("slide").loc[bags.slides].filter(regex="^mccv")
    sides = {name: (np.flatnonzero(columns[name] == TRAIN), np.flatnonzero(columns[name] == VAL)) for name in columns}
    for name, pair in sides.items():
        for side, slides in zip((TRAIN, VAL), pair, strict=True):
            classes = set(bags.targets[slides].tolist())
            if len(classes) < CLASSES:
                gone = ", ".join(str(target) for target in range(CLASSES) if target not in classes)
                raise UserError(
                    f"{table}: split {name} has no slide of class {gone} left on its {side} side, once slides without features are out "
                    f"({len(bags.slides)} have them). Expected both classes on both sides: mend those slides, or add patients to the task."
                )
    return [Split(number, *pair) for number, pair in enumerate(sides.values(), start=1)]


def train(bags: Bags, split: Split, replica: int, settings: GmaSettings, device: torch.device) -> tuple[list[Epoch], NDArray[np.float64]]:
    """One run. Everything random in it follows from the seed, the split and the replica.

    Returns:
        epochs 0 to the last, and the last one's probabilities of class 1 for the validation slides, [slides of `split.val`].
    """
    gma = settings.gma
    random = np.random.default_rng([settings.seed, split.number, replica])
    model = GatedAttention(bags.dim, gma.hidden, gma.attention, CLASSES, gma.dropout, random).to(device)
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
    return epochs, probabilities


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
    """Mean loss and AUC over `slides`, and their probabilities of class 1."""
    model.eval()
    logits = torch.stack([model(bags.tiles(slide))[0] for slide in slides]).double()
    targets = bags.targets[slides]
    probabilities = torch.softmax(logits, dim=1)[:, 1].cpu().numpy()
    return (float(cross_entropy(logits, targets)), auc(targets.cpu().numpy(), probabilities)), probabilities


def train_all(
    bags: Bags, splits: list[Split], settings: GmaSettings, workers: int
) -> Iterator[tuple[Split, int, list[Epoch], NDArray[np.float64]]]:
    """Every split x replica, in that order, on the GPU if there is one, else over `workers` processes that share the bags."""
    todo = [(split, replica) for split in splits for replica in range(1, settings.gma.replicas + 1)]
    if torch.cuda.is_available():
        device = torch.device("cuda")
        bags = dataclasses.replace(bags, features=bags.features.to(device), targets=bags.targets.to(device))
        yield from ((split, replica, *train(bags, split, replica, settings, device)) for split, replica in todo)
        return
    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")  # the features are shared, not copied; workers use nothing that has threads
    with ProcessPoolExecutor(min(workers, len(todo)), fork, _share, (bags, settings)) as pool:
        yield from ((split, replica, *done) for (split, replica), done in zip(todo, pool.map(_train_shared, todo), strict=True))


_SHARED: list[tuple[Bags, GmaSettings]] = []  # what a worker process was started with


def _share(bags: Bags, settings: GmaSettings) -> None:
    die_with_parent()
    _SHARED.append((bags, settings))


def _train_shared(run: tuple[Split, int]) -> tuple[list[Epoch], NDArray[np.float64]]:
    bags, settings = _SHARED[-1]
    return train(bags, *run, settings, torch.device("cpu"))


def gma(splits: Path, features: list[Path], runs: Path, predictions: Path, excluded: Path, settings: GmaSettings, workers: int) -> None:
    """Train every split and replica of a task on one encoder's features; write the epochs, the last predictions, and the slides left out.

    Writes:
        runs: split, replica, epoch, loss (empty at epoch 0), val_loss, auc. predictions: split, replica, slide, target, probability (of
        class 1, last epoch, validation slides). excluded: slide, reason.
    """
    bags, without = read_bags(features, pd.read_csv(splits, dtype={"slide": str}))
    todo = read_splits(splits, bags)
    epochs, last = [], []
    for split, replica, measured, probability in progress(
        train_all(bags, todo, settings, workers), len(todo) * settings.gma.replicas, "gated attention", "run"
    ):
        epochs.append(pd.DataFrame(measured).assign(split=split.number, replica=replica))
        slides = {"slide": [bags.slides[slide] for slide in split.val], "target": bags.targets[split.val].numpy()}
        last.append(pd.DataFrame({"split": split.number, "replica": replica, **slides, "probability": probability}))
    columns = ["split", "replica", *Epoch._fields]
    write_text(runs, pd.concat(epochs)[columns].to_csv(index=False))
    write_text(excluded, without.to_csv(index=False))
    with atomic_path(predictions) as part:
        pd.concat(last).to_parquet(part, index=False)


if __name__ == "__main__":
    run(gma)
