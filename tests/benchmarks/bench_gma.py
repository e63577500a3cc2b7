"""[gma]: seconds of a benchmark of 200 slides x 500 tiles x 384, beside the official way on the same cores.

The plain way trains one run after another, loads a slide's features from disk at every step, and leaves the cores to torch's own
threads. Both do 4 runs of 3 epochs, the validation before them, and the judgement of the training slides at the end, for the threshold; the
published protocol has 40 runs of 50 epochs. The bound is the matrix products: `gflop` of them.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from microtome.bags import Bags
from microtome.config import Gma
from microtome.gma_training import Split, train_all
from microtome.settings import GmaSettings
from tests.benchmarks.rows import row, seconds
from tests.plain_gma import PlainGma

SLIDES, TILES, DIM = 200, 500, 384
HIDDEN, ATTENTION = 512, 384
SPLITS, REPLICAS, EPOCHS = 2, 2, 3


def main() -> list[dict[str, Any]]:
    """One row."""
    cores = len(os.sched_getaffinity(0))
    bags, splits = draw()
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{slide}.pth" for slide in bags.slides]
        for number, path in enumerate(paths):
            torch.save(bags.tiles(number).clone(), path)
        torch.set_num_threads(cores)
        plain_s = seconds(lambda: [plain_run(paths, bags.targets, split) for split in splits for _ in range(REPLICAS)])
    ours_s = seconds(lambda: list(train_all(bags, splits, settings(), torch.device("cpu"), cores)))
    torch.set_num_threads(cores)
    a_tile = DIM * HIDDEN + HIDDEN * HIDDEN + 2 * HIDDEN * ATTENTION  # multiplications
    judged = len(splits[0].train) + (EPOCHS + 1) * len(splits[0].val)
    trained = EPOCHS * len(splits[0].train)  # backward is two forwards, but for the features, which have no gradient
    flop = 2 * SPLITS * REPLICAS * TILES * (a_tile * judged + (3 * a_tile - DIM * HIDDEN) * trained)
    notes = {"runs": SPLITS * REPLICAS, "epochs": EPOCHS, "gflop": round(flop / 1e9)}
    return [row("gma", round(ours_s, 1), "s", round(plain_s, 1), round(plain_s / ours_s, 2), cores, **notes)]


def settings() -> GmaSettings:
    values = {"version": 1, "hidden": HIDDEN, "attention": ATTENTION, "dropout": 0.25, "epochs": EPOCHS, "warmup_epochs": 0}
    values |= {"replicas": REPLICAS, "lr": 1e-4, "lr_end": 1e-6, "weight_decay": 0.04, "weight_decay_end": 0.4, "tf32": False}
    return GmaSettings(seed=0, gma=Gma.model_validate(values))


def draw() -> tuple[Bags, list[Split]]:
    random = np.random.default_rng(0)
    features = torch.from_numpy(random.normal(size=(SLIDES * TILES, DIM)).astype(np.float32))
    bags = Bags([f"s{n}" for n in range(SLIDES)], torch.arange(SLIDES) % 2, features, [TILES * n for n in range(SLIDES + 1)])
    orders = [random.permutation(SLIDES) for _ in range(SPLITS)]
    return bags, [Split(number, order[40:], order[:40]) for number, order in enumerate(orders, start=1)]


def plain_run(paths: list[Path], targets: Tensor, split: Split) -> list[float]:
    net = PlainGma(DIM, HIDDEN, ATTENTION, 2, 0.25)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    aucs = [plain_auc(net, paths, targets, split.val)]
    for _ in range(EPOCHS):
        plain_epoch(net, optimizer, paths, targets, np.random.permutation(split.train))
        aucs.append(plain_auc(net, paths, targets, split.val))
    plain_auc(net, paths, targets, split.train)
    return aucs


def plain_epoch(net: PlainGma, optimizer: torch.optim.Optimizer, paths: list[Path], targets: Tensor, slides: NDArray[np.int64]) -> None:
    net.train()
    for slide in slides:
        loss = nn.functional.cross_entropy(net(loaded(net, paths[slide]))[0], targets[slide][None].to(net.w.weight.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


@torch.no_grad()
def plain_auc(net: PlainGma, paths: list[Path], targets: Tensor, slides: NDArray[np.int64]) -> float:
    net.eval()
    scores = [torch.softmax(net(loaded(net, paths[slide]))[0], 1)[0, 1].item() for slide in slides]
    return float(roc_auc_score(targets[slides], scores))


def loaded(net: PlainGma, path: Path) -> Tensor:
    features: Tensor = torch.load(path)
    return features.to(net.w.weight.device)


if __name__ == "__main__":
    print(*main(), sep="\n")
