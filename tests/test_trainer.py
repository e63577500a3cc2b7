"""A step of training against plain AdamW written out: micro-batches, rates, weight decay, and the numbers that come out of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from microtome.algorithm import Tiles
from microtome.distributed import Processes
from microtome.trainer import NotFiniteError, Outcome, Trainer
from microtome.training_schedules import Rates

BATCH, STEPS = 6, 4
ALONE = Processes(0, 1, torch.device("cpu"))
IMAGES = torch.randint(0, 256, (STEPS * BATCH, 2, 2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@dataclass
class Brightness:
    """An algorithm as small as one can be: predict the mean of a tile's first pixel from the others."""

    network: nn.Module
    betas: tuple[float, float] = (0.8, 0.9)

    def rates(self, step: int) -> Rates:
        return Rates(lr=0.1 / (step + 1), weight_decay=0.2 * step, momentum=None, teacher_temp=None)

    def prepare(self, tiles: Tiles) -> torch.Tensor:
        return tiles.images.flatten(1) / 255

    def loss(self, network: nn.Module, prepared: torch.Tensor, rates: Rates) -> torch.Tensor:
        return ((network(prepared[:, 3:])[:, 0] - prepared[:, :3].mean(1)) ** 2).mean()

    def before_update(self, step: int) -> torch.Tensor:
        return nn.utils.get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None])

    def after_update(self, rates: Rates, global_batch: int) -> dict[str, torch.Tensor]:
        return {"entropy": torch.tensor(float(global_batch))}


def algorithm() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Brightness(nn.Linear(9, 1))


def train(trained: Any, pieces: list[int], steps: int = STEPS, precision: str = "fp32", **update: Any) -> list[Outcome]:
    """Steps in micro-batches of so many tiles."""
    trainer, outcomes = Trainer(trained, ALONE, precision, BATCH, compiled=False), []
    for step in range(steps):
        positions = np.split(np.arange(step * BATCH, (step + 1) * BATCH), np.cumsum(pieces)[:-1])
        for number, some in enumerate(positions):
            trainer.accumulate(Tiles(IMAGES[some], some, 1), step, last=number == len(pieces) - 1)
        outcomes += trainer.update(step, **{"stop": False, "probe": None, **update})
    assert trainer.arrived() == [], "each once"
    return outcomes


@pytest.mark.parametrize("pieces", [[6], [3, 3], [4, 1, 1]])
def test_steps_are_those_of_plain_adamw(pieces: list[int]) -> None:
    ours, plain = algorithm(), algorithm()
    outcomes = train(ours, pieces)
    optimizer = torch.optim.AdamW(
        [{"params": [plain.network.weight]}, {"params": [plain.network.bias]}], betas=plain.betas, foreach=False, fused=False
    )
    for step, outcome in enumerate(outcomes):
        rates = plain.rates(step)
        for group, decay in zip(optimizer.param_groups, (rates.weight_decay, 0.0), strict=True):
            group |= {"lr": rates.lr, "weight_decay": decay}
        optimizer.zero_grad()
        loss = plain.loss(plain.network, plain.prepare(Tiles(IMAGES[step * BATCH :][:BATCH], np.arange(BATCH), 1)), rates)
        loss.backward()
        norm = plain.before_update(step)
        optimizer.step()
        assert (outcome.step, outcome.rates, outcome.stop) == (step, rates, False)
        assert outcome.values == pytest.approx({"loss": loss.item(), "grad_norm": norm.item(), "entropy": BATCH}, rel=1e-5)
    assert torch.allclose(ours.network.weight, plain.network.weight, rtol=1e-5)
    assert torch.allclose(ours.network.bias, plain.network.bias, rtol=1e-5)


def test_what_is_not_bf16_is_never_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True  # as another use may have left them
    train(algorithm(), [6], steps=1)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_probe_and_a_wish_to_stop_are_in_the_outcome() -> None:
    (outcome,) = train(algorithm(), [6], steps=1, stop=True, probe=lambda: {"rankme": torch.tensor(2.5)})
    assert outcome.stop
    assert outcome.values["rankme"] == 2.5
    assert "stop" not in outcome.values


def test_what_is_not_finite_is_named_with_its_step() -> None:
    broken = algorithm()
    with torch.no_grad():
        broken.network.bias.fill_(torch.inf)
    with pytest.raises(NotFiniteError, match=r"^step 1: the loss is inf, the gradient's norm (inf|nan): not finite$"):
        train(broken, [6], steps=1)


def test_bf16_computes_coarsely_and_keeps_weights_whole() -> None:
    coarse, fine = algorithm(), algorithm()
    found, exact = train(coarse, [6], precision="bf16"), train(fine, [6])
    assert coarse.network.weight.dtype == torch.float32
    assert found[0].values["loss"] == pytest.approx(exact[0].values["loss"], rel=0.02)
    assert found[0].values["loss"] != exact[0].values["loss"]
