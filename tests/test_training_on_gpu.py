"""On a GPU: the same views as on a CPU, and steps in which the host never waits."""

import numpy as np
import pytest
import torch

from microtome.algorithm import Tiles
from microtome.augment import View, views
from microtome.distributed import Processes
from microtome.pretrain import build_algorithm
from microtome.trainer import Trainer
from microtome.training_schedules import Length
from tests.training import photo, small_settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("compiled", [False, True])
def test_views_are_those_of_a_cpu(compiled: bool) -> None:
    tiles, positions = photo(16, 64), np.arange(16)
    group = [(0, View(48, (0.4, 1.0), True, 1.0)), (1, View(48, (0.4, 1.0), True, 0.1, 0.2))]
    ours = views(tiles.cuda(), group, 0, 1, positions, MEAN, STD, compiled).cpu()
    difference = (ours - views(tiles, group, 0, 1, positions, MEAN, STD)).abs()
    assert difference.mean() < 0.01
    assert (difference > 0.05).float().mean() < 0.01  # a grey level, enlarged by jitter, is 1 / 255 / 0.22 = 0.018


@pytest.mark.parametrize("algorithm", ["dino", "mae"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_device(algorithm: str, precision: str) -> None:
    trained = build_algorithm(small_settings(algorithm), Length(10, 4)).cuda()
    trainer = Trainer(trained, Processes(0, 1, torch.device("cuda")), precision, 8, compiled=False)
    images = photo(8, 64).pin_memory()
    finished = []
    for step in range(6):
        torch.cuda.set_sync_debug_mode("error" if step > 1 else "default")
        try:
            tiles = Tiles(images.to("cuda", non_blocking=True), np.arange(8), 1)
            trainer.accumulate(tiles, step, True)
            finished += trainer.update(step, False, None)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    finished += trainer.arrived()
    assert [outcome.step for outcome in finished] == list(range(6))
    assert all(np.isfinite(outcome.values["loss"]) for outcome in finished)


@pytest.mark.parametrize("algorithm", ["dino", "mae"])
def test_compiled_training_has_the_same_losses(algorithm: str) -> None:
    images, losses = photo(8, 64).cuda(), []
    for compiled in (False, True):
        trained = build_algorithm(small_settings(algorithm), Length(10, 4)).cuda()
        trainer, finished = Trainer(trained, Processes(0, 1, torch.device("cuda")), "fp32", 8, compiled), []
        for step in range(4):
            trainer.accumulate(Tiles(images, np.arange(8), 1), step, True)
            finished += trainer.update(step, False, None)
        finished += trainer.arrived()
        losses.append([outcome.values["loss"] for outcome in finished])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # a value that rounds to another grey level changes a view
