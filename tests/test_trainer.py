"""A step of training against plain AdamW written out: micro-batches, rates, weight decay, and the numbers that come out of it."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from microtome.algorithm import Tiles
from microtome.distributed import Processes
from microtome.errors import UserError
from microtome.pretrain import build_algorithm
from microtome.settings import PretrainSettings
from microtome.trainer import NotFiniteError, Outcome, Trainer
from microtome.training_schedules import Rates
from tests.training import LENGTH, photo, small_settings

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


# The published loops, written anew: schedules, loss, clipping, AdamW (Loshchilov & Hutter 2019), teacher and centre, a tensor at a time.

TILES, PARITY_STEPS = 8, 5
LOUD = {"lr_per_256": 0.05, "weight_decay": 0.5}  # so that a wrong rate or group is seen in five steps


def trained_by(settings: PretrainSettings) -> tuple[Any, list[Any], Any]:
    """The algorithm as it was, what each step prepared of its tiles, and the algorithm after the trainer's steps, each of 3 + 5 tiles."""
    before, after = (build_algorithm(settings, LENGTH) for _ in range(2))
    trainer, images = Trainer(after, ALONE, "fp32", TILES, compiled=False), photo(TILES, 48)
    whole = []
    for step in range(PARITY_STEPS):
        places = np.arange(step * TILES, (step + 1) * TILES)
        whole.append(before.prepare(Tiles(images, places, 1)))
        for some in (slice(0, 3), slice(3, TILES)):
            trainer.accumulate(Tiles(images[some], places[some], 1), step, last=some.stop == TILES)
        trainer.update(step, stop=False, probe=None)
    return before, whole, after


class PlainAdamW:
    """Weights of two and more dimensions decay; a parameter without a gradient is left alone."""

    def __init__(self, network: nn.Module, betas: tuple[float, float]) -> None:
        self.parameters = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        self.moments = {name: [torch.zeros_like(parameter), torch.zeros_like(parameter), 0] for name, parameter in self.parameters.items()}
        self.betas = betas

    @torch.no_grad()
    def step(self, lr: float, weight_decay: float) -> None:
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            mean, square, steps = self.moments[name]
            mean = self.betas[0] * mean + (1 - self.betas[0]) * parameter.grad
            square = self.betas[1] * square + (1 - self.betas[1]) * parameter.grad**2
            self.moments[name] = [mean, square, steps + 1]
            unbiased = [moment / (1 - beta ** (steps + 1)) for moment, beta in zip((mean, square), self.betas, strict=True)]
            decay = 0.0 if name.endswith(".bias") or parameter.ndim == 1 else weight_decay
            parameter.copy_(parameter * (1 - lr * decay) - lr * unbiased[0] / (unbiased[1].sqrt() + 1e-8))
            parameter.grad = None


def plain_cosine(start: float, end: float, warmup: int = 0) -> np.ndarray:
    """All values of a schedule of 16 steps, as the official DINO tabulates them."""
    rest = np.arange(LENGTH.steps - warmup)
    falling = end + 0.5 * (start - end) * (1 + np.cos(np.pi * rest / len(rest)))
    return np.concatenate([np.linspace(0, start, warmup), falling])


def assert_close(ours: nn.Module, plain: nn.Module) -> None:
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if name.endswith("qkv.bias"):  # a key's bias changes no attention: its gradient is rounding alone, which AdamW blows up
            one, other = (torch.cat(part.chunk(3)[::2]) for part in (one, other))
        assert torch.allclose(one, other, rtol=0, atol=1e-5), (name, float((one - other).abs().max()))


def test_dino_is_the_published_loop() -> None:
    settings = small_settings("dino", **LOUD, weight_decay_end=1.0, clip_grad=0.02, momentum_teacher=0.8)
    recipe: Any = settings.recipe
    before, whole, after = trained_by(settings)
    student, teacher, centre = before.network, copy.deepcopy(before.network), torch.zeros(recipe.out_dim)
    adamw = PlainAdamW(student, (0.9, 0.999))
    lrs = plain_cosine(recipe.lr_per_256 * TILES / 256, recipe.min_lr, warmup=2)
    decays, momenta = plain_cosine(0.5, 1.0), plain_cosine(0.8, 1.0)
    clipped = set()
    for step, prepared in enumerate(whole):
        with torch.no_grad():
            seen = teacher(prepared.crops[:1], [None]).chunk(2)
        outputs = student(prepared.crops, prepared.drop_path).chunk(2 + recipe.local_crops)
        targets = [torch.softmax((view - centre) / 0.04, dim=1) for view in seen]
        pairs = [(t, s) for t in range(2) for s in range(len(outputs)) if s != t]
        losses = [torch.sum(-targets[t] * torch.log_softmax(outputs[s] / 0.1, dim=1), dim=1).mean() for t, s in pairs]
        (sum(losses) / len(pairs)).backward()  # type: ignore[union-attr]
        for name, parameter in student.named_parameters():
            if parameter.grad is not None:
                factor = 0.02 / (parameter.grad.norm() + 1e-6)
                clipped.add(bool(factor < 1))
                parameter.grad *= min(1.0, float(factor))
            if "last_layer" in name and step < 2:  # frozen for half a pseudo-epoch
                parameter.grad = None
        adamw.step(lrs[step], decays[step])
        with torch.no_grad():
            for follower, parameter in zip(teacher.parameters(), student.parameters(), strict=True):
                follower.copy_(momenta[step] * follower + (1 - momenta[step]) * parameter)
            centre = 0.9 * centre + 0.1 * torch.cat(seen).mean(dim=0)
    assert clipped == {True, False}
    assert_close(after.network, student)
    assert_close(after.teacher, teacher)
    assert torch.allclose(after.center, centre, rtol=0, atol=1e-5)


def test_mae_is_the_published_loop() -> None:
    settings = small_settings("mae", **LOUD, min_lr=1e-4)
    before, whole, after = trained_by(settings)
    recipe, network = before.recipe, before.network
    adamw, peak = PlainAdamW(network, (0.9, 0.95)), recipe.lr_per_256 * TILES / 256
    for step, prepared in enumerate(whole):
        epoch = step / 4
        falling = 1e-4 + (peak - 1e-4) * 0.5 * (1 + math.cos(math.pi * (epoch - 0.5) / (4 - 0.5)))
        predicted = network(prepared.images, prepared.order, 2)  # of four patches
        errors = []
        for image, order, guess in zip(prepared.images, prepared.order, predicted, strict=True):
            for patch in order[2:].tolist():
                top, left = 16 * (patch // 2), 16 * (patch % 2)
                pixels = image[:, top : top + 16, left : left + 16].permute(1, 2, 0).flatten()
                errors.append(((guess[patch] - (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()) ** 2).mean())
        (sum(errors) / len(errors)).backward()  # type: ignore[union-attr]
        adamw.step(peak * epoch / 0.5 if epoch < 0.5 else falling, 0.5)
    assert_close(after.network, network)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    mae = build_algorithm(small_settings("mae"), LENGTH)
    with pytest.raises(UserError, match=r"pretrain\.compile: found no C compiler on this node, expected gcc or clang"):
        Trainer(mae, ALONE, "fp32", BATCH, compiled=True)
