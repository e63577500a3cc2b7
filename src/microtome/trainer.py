"""The one training loop's step, whatever the algorithm: gradients summed over micro-batches and processes, an update, and the numbers
that come out of it, read a step late on a GPU so that nothing waits for it.
"""

import contextlib
import math
import os
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from microtome.algorithm import Algorithm, Tiles, parameter_groups
from microtome.distributed import Processes, sum_over_processes
from microtome.errors import UserError
from microtome.training_schedules import Rates


class NotFiniteError(Exception):
    """A loss or a gradient is not a number, or infinite."""


@dataclass(frozen=True)
class Outcome:
    """What a finished step gave: rates and values for the curve; `stop` says that a process was asked to stop, `replaced` how many tiles
    of the global batch could not be read.
    """

    step: int
    rates: Rates
    values: dict[str, float]
    stop: bool
    replaced: int


class Trainer:
    """Trains `algorithm` step by step.

    Args:
        algorithm: on the device of `processes`.
        processes: this one and its group.
        precision: `fp32`, or `bf16` by autocast.
        global_batch: tiles a step, over all processes.
        compiled: compile the network and what works beside it.

    Raises:
        UserError: bf16 on a GPU that has none; no C compiler for what is to be compiled.
    """

    def __init__(self, algorithm: Algorithm, processes: Processes, precision: str, global_batch: int, compiled: bool) -> None:
        self.algorithm, self.processes, self.global_batch = algorithm, processes, global_batch
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # what is not bf16 is float32, not TF32
        device = processes.device
        if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise UserError(f"precision: found bf16, but {torch.cuda.get_device_name(device)} has none. Choose fp32.")
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        self.optimizer = torch.optim.AdamW(parameter_groups(algorithm.network), lr=0.0, betas=algorithm.betas, fused=True)
        network: nn.Module = algorithm.network
        if processes.world > 1:
            network = DistributedDataParallel(network, gradient_as_bucket_view=True)
        if compiled:
            _expect_compiler()
            algorithm.compile_beside()
            network = cast("nn.Module", torch.compile(network, dynamic=False))
        self._network = network
        self._loss: torch.Tensor | float = 0.0
        self._pending: deque[Pending] = deque()

    def accumulate(self, tiles: Tiles, step: int, last: bool) -> None:
        """Forward and backward of a micro-batch; gradients are exchanged in the `last` of a step."""
        share = self.global_batch // self.processes.world
        prepared = self.algorithm.prepare(tiles)
        silent = contextlib.nullcontext() if last or self.processes.world == 1 else self._unwrapped().no_sync()
        with silent:
            with self._autocast:
                loss = self.algorithm.loss(self._network, prepared, self.algorithm.rates(step))
            loss = loss * (len(tiles.positions) / share)
            torch.autograd.backward(loss)
        self._loss += loss.detach()

    def _unwrapped(self) -> Any:
        return getattr(self._network, "_orig_mod", self._network)

    @property
    def lag(self) -> int:
        """Steps after which the numbers of a step are read, so that nothing waits for a GPU."""
        return 1 if self.processes.device.type == "cuda" else 0

    def update(self, step: int, stop: bool, probe: Callable[[], dict[str, torch.Tensor]] | None, replaced: int = 0) -> list[Outcome]:
        """Finish step `step` of the schedule, of whose tiles this process `replaced` some; `probe` measures what came out.

        Returns the steps whose numbers have arrived.

        Raises:
            NotFiniteError: by one of them.
        """
        rates = self.algorithm.rates(step)
        decayed, fixed = self.optimizer.param_groups
        decayed["lr"] = fixed["lr"] = rates.lr
        decayed["weight_decay"] = rates.weight_decay
        norm = self.algorithm.before_update(step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        values = self.algorithm.after_update(rates, self.global_batch)
        asked, gone = (torch.full_like(norm, float(value)) for value in (stop, replaced))  # filled on the device: a copy would wait for it
        shared = torch.stack([torch.as_tensor(self._loss), asked, gone])
        loss, stops, all_gone = sum_over_processes(shared)
        self._loss = 0.0
        own = {"loss": loss / self.processes.world, "grad_norm": norm, "stop": stops, "replaced": all_gone}
        values = {**own, **values, **(probe() if probe else {})}
        self._pending.append(Pending(step, rates, values))
        return self.arrived(waiting=self.lag)

    def arrived(self, waiting: int = 0) -> list[Outcome]:
        """The outcome of all steps but the `waiting` last ones, each once."""
        return [self._pending.popleft().outcome() for _ in range(len(self._pending) - waiting)]


def _expect_compiler() -> None:
    """torch.compile calls one, on a GPU, too, and ends in its own traceback where there is none."""
    known = [os.environ.get("CC", ""), "gcc", "clang"]
    if not any(shutil.which(name) for name in known):
        raise UserError("pretrain.compile: found no C compiler on this node, expected gcc or clang. Install one, or set it to false.")


class Pending:
    """The numbers of a step on their way from the device."""

    def __init__(self, step: int, rates: Rates, values: dict[str, torch.Tensor]) -> None:
        self.step, self.rates, self.names = step, rates, list(values)
        packed = torch.stack([value.float() for value in values.values()])
        self.event = cast("Any", torch.cuda).Event() if packed.is_cuda else None
        self.numbers = torch.empty(len(packed), pin_memory=packed.is_cuda).copy_(packed, non_blocking=True)
        if self.event is not None:
            self.event.record()

    def outcome(self) -> Outcome:
        """Wait for the numbers, and check them."""
        if self.event is not None:
            self.event.synchronize()
        values = dict(zip(self.names, self.numbers.tolist(), strict=True))
        stop, replaced = values.pop("stop") > 0, round(values.pop("replaced"))
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            raise NotFiniteError(
                f"step {self.step + 1}: the loss is {values['loss']}, the gradient's norm {values['grad_norm']}: not finite"
            )
        return Outcome(self.step, self.rates, values, stop, replaced)
