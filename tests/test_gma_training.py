import dataclasses
import os
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from microtome.bags import Bags, Files, gpu_room_b
from microtome.config import Gma
from microtome.errors import UserError
from microtome.gma_model import Nets, Shape, Stack
from microtome.gma_training import Run, Split, Trained, _rows, evaluate, train, train_all
from microtome.settings import GmaSettings
from tests.plain_gma import plain

CPU = torch.device("cpu")


def settings(seed: int = 0, **values: Any) -> GmaSettings:
    small = {"hidden": 16, "attention": 8, "dropout": 0.25, "epochs": 8, "warmup_epochs": 2, "replicas": 2, "lr": 0.003, "lr_end": 1e-6}
    small |= {"version": 1, "weight_decay": 0.04, "weight_decay_end": 0.4, "tf32": True}
    return GmaSettings(seed=seed, gma=Gma.model_validate(small | values))


def train_one(bags: Bags, split: Split, replica: int, settings: GmaSettings) -> Trained:
    """One run on a CPU."""
    return train(bags, [Run(split, replica)], settings, CPU)[0]


def drawn_bags(slides: int = 30, dim: int = 12, seed: int = 0, permute: bool = False, classes: int = 2) -> Bags:
    """Bags of 5 to 30 tiles; a fifth of the tiles of a slide of class c are shifted by 2.5 c. `permute` gives labels at random."""
    random = np.random.default_rng(seed)
    counts, targets = random.integers(5, 31, slides), np.arange(slides) % classes
    features = [random.normal(size=(count, dim)) for count in counts]
    for tiles, target in zip(features, targets, strict=True):
        tiles[: -(-len(tiles) // 5)] += 2.5 * target * (np.arange(dim) < 3)
    if permute:
        targets = random.permutation(targets)
    first = [0, *(int(last) for last in np.cumsum(counts))]
    return Bags([f"s{n:02d}" for n in range(slides)], torch.tensor(targets.tolist()), torch.from_numpy(np.vstack(features)).float(), first)


def drawn_splits(bags: Bags, repeats: int, seed: int = 0) -> list[Split]:
    random, targets = np.random.default_rng(seed), bags.targets.numpy()
    splits = []
    for number in range(1, repeats + 1):
        val = np.concatenate([random.permutation(np.flatnonzero(targets == target))[:5] for target in np.unique(targets)])
        splits.append(Split(number, np.setdiff1d(np.arange(len(targets)), val), np.sort(val)))
    return splits


def last_aucs(bags: Bags, **values: Any) -> np.ndarray:
    return np.array([train_one(bags, split, 1, settings(**values)).epochs[-1].auc for split in drawn_splits(bags, 4)])


def test_true_labels_are_learnt_and_permuted_ones_are_not() -> None:
    true = last_aucs(drawn_bags())
    permuted = np.array([last_aucs(drawn_bags(permute=True, seed=seed)).mean() for seed in range(4)])
    assert true.mean() > 0.9
    assert 0.35 < permuted.mean() < 0.65


def test_three_classes_are_learnt() -> None:
    bags = drawn_bags(classes=3)
    split = drawn_splits(bags, 1)[0]
    run = train_one(bags, split, 1, settings(epochs=16))
    assert run.probabilities.shape == (15, 3)
    assert run.probabilities.sum(axis=1) == pytest.approx(np.ones(15))
    targets = bags.targets[split.val].numpy()
    assert run.epochs[-1].auc == pytest.approx(roc_auc_score(targets, run.probabilities, multi_class="ovr", average="macro"))
    assert run.epochs[-1].auc > 0.75
    assert np.isnan(run.threshold)


def test_a_run_alone_is_the_run_in_company_bit_for_bit() -> None:
    bags = drawn_bags()
    splits = drawn_splits(bags, 3)
    together = {(run.split.number, run.replica): run for run in train_all(bags, splits, settings(), CPU, workers=2)}
    assert list(together) == [(split, replica) for split in (1, 2, 3) for replica in (1, 2)]
    torch.manual_seed(99)  # what else draws from torch's random state does not matter
    alone = train_one(bags, splits[1], 2, settings())
    assert together[2, 2].epochs == alone.epochs
    assert together[2, 2].threshold == alone.threshold
    np.testing.assert_array_equal(together[2, 2].probabilities, alone.probabilities)
    assert together[2, 1].epochs != alone.epochs, "replicas differ"
    assert train_one(bags, splits[1], 2, settings(seed=1)).epochs != alone.epochs, "seeds differ"


def test_epoch_0_is_the_untrained_net() -> None:
    bags = drawn_bags()
    split = drawn_splits(bags, 1)[0]
    net = Nets(Shape(bags.dim, 16, 8, 2, 0.25), [np.random.default_rng([0, 1, 1])], 2048, CPU)
    loss, auc, probabilities, _ = evaluate(net, 0, bags, split.val)
    _, _, epochs, *_ = train_one(bags, split, 1, settings())
    assert epochs[0] == (0, None, loss, auc)
    assert [epoch.epoch for epoch in epochs] == list(range(9))
    targets = bags.targets[split.val].numpy()
    assert auc == pytest.approx(roc_auc_score(targets, probabilities[:, 1]))
    assert loss == pytest.approx(-np.log(probabilities[np.arange(len(targets)), targets]).mean(), rel=1e-6)


def test_the_threshold_is_that_of_the_training_slides() -> None:
    """With labels that are learnt, half way between the classes; the validation slides have no say."""
    bags = drawn_bags()
    split = drawn_splits(bags, 1)[0]
    run = train_one(bags, split, 1, settings())
    assert 0 < run.threshold < 1
    assert train_one(bags, split._replace(val=split.val[1:]), 1, settings()).threshold == run.threshold


def plain_run(bags: Bags, split: Split, replica: int, settings: GmaSettings) -> list[float]:
    """The same run written plainly: autograd, torch's own AdamW, one group a parameter, schedules as in DINO's official code."""
    gma = settings.gma
    random = np.random.default_rng([settings.seed, split.number, replica])
    net = plain(Nets(Shape(bags.dim, gma.hidden, gma.attention, 2, 0.0), [random], 1, CPU), 0)
    steps, warm = gma.epochs * len(split.train), gma.warmup_epochs * len(split.train)
    fall = gma.lr_end + 0.5 * (gma.lr - gma.lr_end) * (1 + np.cos(np.pi * np.arange(steps - warm) / (steps - warm)))
    lr = np.concatenate([np.linspace(0, gma.lr, warm), fall])
    decay = gma.weight_decay_end + 0.5 * (gma.weight_decay - gma.weight_decay_end) * (1 + np.cos(np.pi * np.arange(steps) / steps))
    net.w.bias.requires_grad_(False)  # its gradient is 0 but for rounding, which AdamW would enlarge
    optimizer = torch.optim.AdamW([{"params": [p]} for p in net.parameters() if p.requires_grad], foreach=False)
    losses, step = [], 0
    for _ in range(gma.epochs):
        losses.append(0.0)
        for slide in random.permutation(split.train):
            for group in optimizer.param_groups:
                group["lr"], group["weight_decay"] = lr[step], decay[step] * (group["params"][0].ndim > 1)
            loss = -torch.log_softmax(net(bags.tiles(slide))[0][0], 0)[bags.targets[slide]]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1] += loss.item() / len(split.train)
            step += 1
    return losses


def test_training_is_the_plain_loop() -> None:
    bags = drawn_bags()
    split = drawn_splits(bags, 1)[0]
    epochs = train_one(bags, split, 2, settings(dropout=0.0)).epochs
    assert [epoch.loss for epoch in epochs[1:]] == pytest.approx(plain_run(bags, split, 2, settings(dropout=0.0)), rel=1e-4)


@pytest.mark.parametrize("rows", [None, 60])  # 60: two or three slides at a time
def test_runs_that_advance_together_are_the_runs_alone(rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of unequal numbers of training slides, so that one idles; as on a GPU, but for what a GPU rounds."""
    bags = drawn_bags(classes=3)
    splits = drawn_splits(bags, 3)
    splits[1] = splits[1]._replace(train=splits[1].train[:-3])
    runs = [Run(split, 1) for split in splits]
    if rows:
        monkeypatch.setattr("microtome.gma_training._rows", lambda *_: rows)
    for run, together in zip(runs, train(bags, runs, settings(), CPU), strict=True):
        alone = train_one(bags, run.split, 1, settings())
        assert [epoch.loss for epoch in together.epochs[1:]] == pytest.approx([epoch.loss for epoch in alone.epochs[1:]], rel=1e-3)
        np.testing.assert_allclose(together.probabilities, alone.probabilities, atol=1e-3)
        np.testing.assert_allclose(together.attention, alone.attention, atol=1e-3)


@pytest.mark.parametrize(
    ("free_gb", "dim", "at_once"), [(149, 384, 40), (149, 1536, 40), (149, 2048, 37), (80, 384, 40), (46, 384, 40), (24, 96, 40)]
)
def test_a_published_task_fits_on_a_gpu(free_gb: float, dim: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 slides of 7,600 tiles and 40 nets: features, weights with gradients and moments, and the buffers of slides at once."""
    files = Files([], [(7600, dim)] * 2000, torch.float32)
    bags, shape = Bags([""] * 2000, torch.zeros(2000), files, list(range(0, 7600 * 2001, 7600))), Shape(dim, 512, 384, 2, 0.25)
    features_b, weights_b = 4 * 7600 * 2000 * dim, 40 * 16 * Stack(shape, 1, CPU).flat.numel()
    assert features_b <= gpu_room_b(free_gb * 1e9)
    monkeypatch.setattr("microtome.gma_training.free_device_b", lambda _: free_gb * 1e9 - features_b)
    rows = _rows(bags, shape, 40, torch.device("cuda"))
    assert rows // 7600 == at_once
    assert features_b + weights_b + rows * Nets.bytes_a_tile(shape) < 0.96 * free_gb * 1e9


def test_float16_features_train_in_float32() -> None:
    bags = drawn_bags()
    half = dataclasses.replace(bags, features=bags.features.half())
    split = drawn_splits(bags, 1)[0]
    exact, rounded = (train_one(b, split, 1, settings(epochs=2)).epochs[-1] for b in (bags, half))
    assert rounded.loss == pytest.approx(exact.loss, rel=1e-2)


def test_a_loss_that_is_not_finite_stops() -> None:
    bags = drawn_bags()
    with pytest.raises(UserError, match=r"split 1, replica 1: the loss is nan in epoch \d\. Try a smaller gma\.lr"):
        train_one(bags, drawn_splits(bags, 1)[0], 1, settings(lr=1e30, warmup_epochs=0))
    with pytest.raises(UserError, match=r"the validation loss is nan after epoch 1\. Try a smaller gma\.lr"):
        train_one(bags, Split(1, np.array([4]), np.array([0, 1, 2, 3])), 1, settings(epochs=1, lr=1e30, warmup_epochs=0))


def test_soak_musk1(shared_data: Path) -> None:
    """Ilse et al. 2018, table 1: gated attention reaches 90.0 % +- 5.0 % (five times tenfold) on MUSK1.

    In full with their learning rate and epochs, sizes near theirs, and for the rest the published protocol, two replicas averaged: 88.3 %.
    Its five repeats give 85.9 to 90.2; 92 bags leave a standard error of 3 points. One tenfold of few epochs gives 85.9 %.
    """
    musk = np.load(shared_data / "mil" / "musk1.npz")
    order, targets = np.argsort(musk["bag"], kind="stable"), musk["y"]
    features = ((musk["X"] - musk["X"].mean(0)) / musk["X"].std(0))[order].astype(np.float32)
    first = np.searchsorted(musk["bag"][order], np.arange(len(targets) + 1)).tolist()
    bags = Bags([str(n) for n in range(len(targets))], torch.tensor(targets.tolist()), torch.from_numpy(features), first)
    short = settings(hidden=64, attention=64, epochs=6, warmup_epochs=2, lr=0.002, replicas=1)
    full = settings(hidden=128, attention=64, epochs=100, warmup_epochs=10, lr=0.0005, replicas=2)
    repeats, protocol, expected = (5, full, 0.87) if os.environ.get("MICROTOME_SOAK") else (1, short, 0.82)
    folds = [fold for seed in range(repeats) for fold in StratifiedKFold(10, shuffle=True, random_state=seed).split(targets, targets)]
    splits = [Split(number, *fold) for number, fold in enumerate(folds, start=1)]
    right = []
    for _, replicas in groupby(train_all(bags, splits, protocol, CPU, 2), key=lambda run: run.split.number):
        runs = list(replicas)
        mean = np.mean([run.probabilities for run in runs], axis=0)
        right.append(mean.argmax(axis=1) == targets[runs[0].split.val])
    accuracy = np.concatenate(right).mean()
    print(f"MUSK1, {repeats} x 10-fold: accuracy {accuracy:.3f}")
    assert accuracy > expected
