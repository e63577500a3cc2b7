"""Training gated attention: the runs of a task, together on a GPU, over the cores of this machine without one.

A step is one slide with all its tiles (Campanella et al. 2023): AdamW, unweighted cross-entropy. Epochs run from 1; epoch 0 is the
untrained net. Everything random in a run follows from the seed, its split and its replica, not from the runs beside it.

The bound: a tile of 384 features costs 4.7 MFLOP and some 110 kB of memory traffic in a step, 1.7 MFLOP and 30 kB where it is judged. A
published task (2,000 slides of 7,600 tiles, 40 runs of 50 epochs) is 80,000 steps of 40 slides, 1.43 TFLOP and 33 GB each; with 51
validations and the threshold 126 PFLOP and 2.9 PB. At the peaks of an H200 (495 TFLOP/s with TF32, 67 without; 4.8 TB/s) products take 4
minutes (31 without TF32) and traffic 10: between 10, did all overlap, and 14, did nothing; 31 and 41 without TF32. The host launches some
1,000 operations a step. Measured there: 19.2 ms a step, of which the GPU works 17.9 (products, at a third of their peak, 8), and, worked
out from an epoch, 2.3 s a validation of all runs: so some 28 minutes.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, one_hot

from microtome.bags import Bags, groups_of, on_device
from microtome.decisions import youden_threshold
from microtome.errors import UserError
from microtome.gma_model import Nets, Part, Shape
from microtome.gma_optimizer import Optimizer, optimizer_of
from microtome.memory import free_device_b
from microtome.orphans import die_with_parent
from microtome.progress import progress
from microtome.settings import GmaSettings
from microtome.statistics import macro_auc

JUDGED = 2048  # tiles that a CPU judges at once, or those of the largest slide
IDLE = -1  # in the place of a slide: a run that has fewer of them than others waits for the next epoch
STEP_SHARE = 0.5  # of a GPU's free memory, for the buffers of a step


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


class Run(NamedTuple):
    """A split and a replica of it."""

    split: Split
    replica: int

    def __str__(self) -> str:
        return f"split {self.split.number}, replica {self.replica}"


def train(bags: Bags, runs: list[Run], settings: GmaSettings, device: torch.device) -> list[Trained]:
    """Runs, from epoch 0 to the last, that advance together and do not know of each other.

    Raises:
        UserError: a loss that is not finite.
    """
    with torch.inference_mode():
        gma = settings.gma
        torch.backends.cuda.matmul.allow_tf32 = gma.tf32
        randoms = [np.random.default_rng([settings.seed, run.split.number, run.replica]) for run in runs]
        shape = Shape(bags.dim, gma.hidden, gma.attention, bags.classes, gma.dropout)
        nets = Nets(shape, randoms, _rows(bags, shape, len(runs), device), device)
        optimizer = optimizer_of(nets, gma, [len(run.split.train) for run in runs])
        judged = [evaluate(nets, net, bags, run.split.val) for net, run in enumerate(runs)]
        epochs = [[Epoch(0, None, one.loss, one.auc)] for one in judged]
        numbers = range(1, gma.epochs + 1)
        for number in progress(numbers, gma.epochs, "gated attention", "epoch") if len(runs) > 1 else numbers:
            losses = _train_epoch(nets, optimizer, bags, runs, randoms)
            for net, run in enumerate(runs):
                if not np.isfinite(losses[net]):
                    raise UserError(f"{run}: the loss is {losses[net]} in epoch {number}. Try a smaller gma.lr.")
                judged[net] = evaluate(nets, net, bags, run.split.val, looked=number == gma.epochs)
                if not np.isfinite(judged[net].loss):  # the last step, whose loss was taken before it, may have been the one
                    raise UserError(f"{run}: the validation loss is {judged[net].loss} after epoch {number}. Try a smaller gma.lr.")
                epochs[net].append(Epoch(number, losses[net], judged[net].loss, judged[net].auc))
        thresholds = [_threshold(nets, net, bags, run.split.train) for net, run in enumerate(runs)]
        return [Trained(*run, e, j.probabilities, t, j.attention) for run, e, j, t in zip(runs, epochs, judged, thresholds, strict=True)]


def _rows(bags: Bags, shape: Shape, runs: int, device: torch.device) -> int:
    """How many tiles the buffers of a step take: those of any slide; on a GPU, of one slide a run if they fit into what features left."""
    largest = max(bags.count(slide) for slide in range(len(bags.slides)))
    if device.type != "cuda":
        return max(largest, JUDGED)
    return max(largest, min(runs * largest, int(STEP_SHARE * free_device_b(device)) // Nets.bytes_a_tile(shape)))


def _train_epoch(nets: Nets, optimizer: Optimizer, bags: Bags, runs: list[Run], randoms: list[np.random.Generator]) -> list[float]:
    """An epoch of all runs; their mean losses. Nothing in a step waits for the device."""
    orders = [random.permutation(run.split.train) for run, random in zip(runs, randoms, strict=True)]
    order = np.full((max(map(len, orders)), len(runs)), IDLE)  # [steps, runs]
    for net, one in enumerate(orders):
        order[: len(one), net] = one
    wanted = one_hot(bags.targets[order], bags.classes).float().to(nets.device)  # [steps, runs, classes]
    losses = torch.zeros(order.shape, device=nets.device)
    plan = [list(_groups(bags, row, nets.rows)) for row in order.tolist()]
    tiles = on_device(bags, (group for groups in plan for _, group in groups), nets.rows, nets.device)
    optimizer.begin_epoch()
    for step, groups in enumerate(plan):
        for net, group in groups:
            logits, _ = nets.forward([Part(net + i, one, [len(one)]) for i, one in enumerate(next(tiles))], training=True)
            these = slice(net, net + len(group))
            losses[step, these] = nets.backward(logits, wanted[step, these])
        optimizer.step(step)
    return [total / len(one) for total, one in zip(losses.sum(0).tolist(), orders, strict=True)]


def _groups(bags: Bags, slides: list[int], rows: int) -> Iterator[tuple[int, list[int]]]:
    """The slides of a step as the buffers take them: the first net of those that follow each other, and a slide each."""
    for idle, some in groupby(enumerate(slides), key=lambda of_net: of_net[1] == IDLE):
        if not idle:
            nets, their = zip(*some, strict=True)
            for group in groups_of(bags, their, rows):
                yield nets[0], group
                nets = nets[len(group) :]


class Judged(NamedTuple):
    """Mean loss and AUC over slides, their probabilities [slides, classes], and their tiles' attention [tiles], empty if not asked for."""

    loss: float
    auc: float
    probabilities: NDArray[np.float64]
    attention: NDArray[np.float32]


def evaluate(nets: Nets, net: int, bags: Bags, slides: NDArray[np.int64], looked: bool = False) -> Judged:
    """What one net makes of `slides`, without dropout; with its attention where `looked`."""
    logits, attention = [], [np.empty(0, np.float32)]
    for tiles in on_device(bags, groups_of(bags, slides.tolist(), nets.rows), nets.rows, nets.device):
        of_bags, of_tiles = nets.forward([Part(net, nets.join(tiles), [len(one) for one in tiles])], training=False)
        logits.append(of_bags)
        if looked:
            attention.append(of_tiles.cpu().numpy().copy())  # the buffer is used again
    judged, targets = torch.cat(logits).cpu().double(), bags.targets[slides]
    probabilities = torch.softmax(judged, dim=1).numpy()
    auc = macro_auc(targets.numpy(), probabilities)
    return Judged(float(cross_entropy(judged, targets)), auc, probabilities, np.concatenate(attention))


def _threshold(nets: Nets, net: int, bags: Bags, slides: NDArray[np.int64]) -> float:
    """Youden's, on the training slides; NaN where there are more than two classes: one threshold cannot part them."""
    if bags.classes > 2:
        return float("nan")
    return youden_threshold(bags.targets[slides].numpy(), evaluate(nets, net, bags, slides).probabilities[:, 1])


def train_all(bags: Bags, splits: list[Split], settings: GmaSettings, device: torch.device, workers: int) -> Iterator[Trained]:
    """Every split x replica, in that order: on a GPU together, else one at a time in each of `workers` processes that share the bags."""
    todo = [Run(split, replica) for split in splits for replica in range(1, settings.gma.replicas + 1)]
    if device.type == "cuda":
        yield from train(bags, todo, settings, device)
        return
    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")  # the features are shared, not copied; workers use nothing that has threads
    with ProcessPoolExecutor(min(workers, len(todo)), fork, _share, (bags, settings)) as pool:
        yield from progress(pool.map(_train_shared, todo), len(todo), "gated attention", "run")


_SHARED: list[tuple[Bags, GmaSettings]] = []  # what a worker process was started with


def _share(bags: Bags, settings: GmaSettings) -> None:
    die_with_parent()
    _SHARED.append((bags, settings))


def _train_shared(run: Run) -> Trained:
    bags, settings = _SHARED[-1]
    return train(bags, [run], settings, torch.device("cpu"))[0]
