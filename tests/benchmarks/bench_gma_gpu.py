"""[gma_gpu]: minutes of a published task on a GPU, beside the official way on the same GPU; no row without one.

2,000 slides x 7,600 tiles x 384, drawn on the device; 40 runs of 50 epochs as in config.yaml. Ours trains once for one epoch and once for
two; what the second took longer stands for each further epoch. The plain way trains one run after another and loads a slide's features from
disk (here from the page cache) at every use: some steps and judgements of one run stand for all. Validation is in both; the threshold and
the attention are in ours alone.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from microtome.bags import Bags
from microtome.config import Gma
from microtome.gma_training import Run, Split, train
from microtome.settings import GmaSettings
from tests.benchmarks.bench_gma import plain_auc, plain_epoch
from tests.benchmarks.rows import row, seconds
from tests.plain_gma import PlainGma


class Task(NamedTuple):
    """What there is to train on."""

    slides: int
    tiles: int
    dim: int
    splits: int


PUBLISHED, PLAIN_STEPS = Task(2000, 7600, 384, 20), 40
GMA = Gma.model_validate(yaml.safe_load((Path(__file__).parents[2] / "config" / "config.yaml").read_text())["gma"])


def main() -> list[dict[str, Any]]:
    """One row where there is a GPU."""
    if not torch.cuda.is_available():
        return []
    measured = measure(PUBLISHED, GMA, torch.device("cuda"), PLAIN_STEPS)
    return [measured | {"gpu": torch.cuda.get_device_name(), "gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1)}]


def measure(task: Task, gma: Gma, device: torch.device, plain_steps: int) -> dict[str, Any]:
    """The row of a task on a device."""
    bags, runs = draw(task, gma.replicas, device)
    ours_min, plain_min = minutes(bags, runs, gma, device), plain_minutes(bags, runs, gma, device, plain_steps)
    notes = {"runs": len(runs), "epochs": gma.epochs, "tf32": gma.tf32}
    cores = len(os.sched_getaffinity(0))
    return row("gma_gpu", round(ours_min, 2), "min", round(plain_min, 2), round(plain_min / ours_min, 2), cores, **notes)


def draw(task: Task, replicas: int, device: torch.device) -> tuple[Bags, list[Run]]:
    """Features without signal, on the device, and splits of 80 % and 20 %."""
    slides, tiles, dim, splits = task
    features = torch.randn(slides * tiles, dim, device=device)
    bags = Bags([f"s{n}" for n in range(slides)], torch.arange(slides) % 2, features, [tiles * n for n in range(slides + 1)])
    orders, val = [np.random.default_rng([0, number]).permutation(slides) for number in range(splits)], slides // 5
    return bags, [
        Run(Split(number, order[val:], order[:val]), replica)
        for number, order in enumerate(orders, start=1)
        for replica in range(1, replicas + 1)
    ]


def minutes(bags: Bags, runs: list[Run], gma: Gma, device: torch.device) -> float:
    """Of all runs and epochs."""

    def train_s(runs: list[Run], epochs: int) -> float:
        settings = GmaSettings(seed=0, gma=gma.model_copy(update={"epochs": epochs, "warmup_epochs": 0}))
        return seconds(lambda: train(bags, runs, settings, device))  # ends with results on the host

    few = [run._replace(split=run.split._replace(train=run.split.train[:4], val=run.split.val[:4])) for run in runs]
    train_s(few, 1)  # libraries are loaded
    one, two = train_s(runs, 1), train_s(runs, 2)
    return (one + (gma.epochs - 1) * (two - one)) / 60


def plain_minutes(bags: Bags, runs: list[Run], gma: Gma, device: torch.device, steps: int) -> float:
    """Of all runs and epochs in the plain way, from `steps` steps and as many judgements."""
    net = PlainGma(bags.dim, gma.hidden, gma.attention, bags.classes, gma.dropout).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=gma.lr)
    some = np.arange(steps) % len(bags.slides)
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"{slide}.pth" for slide in range(some.max() + 1)]
        for slide, path in enumerate(paths):
            torch.save(bags.tiles(slide).cpu().clone(), path)
        plain_epoch(net, optimizer, paths, bags.targets, some[:4])
        step_s = seconds(lambda: plain_epoch(net, optimizer, paths, bags.targets, some)) / steps
        judge_s = seconds(lambda: plain_auc(net, paths, bags.targets, some)) / steps
    trained = gma.epochs * sum(len(run.split.train) for run in runs)
    judged = (gma.epochs + 1) * sum(len(run.split.val) for run in runs)
    return (trained * step_s + judged * judge_s) / 60


if __name__ == "__main__":
    print(*main(), sep="\n")
