"""One pseudo-epoch of training: its steps, and the states and the curve it leaves on the way."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from microtome import collapse
from microtome.algorithm import Tiles
from microtome.checkpoint import save_rolling
from microtome.curve import IMAGENET_IMAGES, Curve, spacing
from microtome.distributed import wait_for_one_another
from microtome.errors import StoppedError, UserError
from microtome.loader import TileBatch, tile_batches
from microtome.orphans import STOPS
from microtome.progress import progress_bar
from microtome.recipes import Monitor
from microtome.resume import Job
from microtome.trainer import NotFiniteError, Outcome, Trainer

PROBE = 128  # tiles that the monitor looks at, but no more than a batch: the first of the run's first schedule


class PseudoEpoch:
    """Trains a job.

    Args:
        job: the pseudo-epoch.
        trainer: of its algorithm.
        monitor: what a collapse is.
        max_replaced: tiles of the pseudo-epoch that may be unreadable, and replaced, before it stops; of all processes, and of all starts.
        state: where it starts: of this pseudo-epoch, of the end of the one before, or None.
        saved: the file of `state`, if it is of this pseudo-epoch.
    """

    def __init__(
        self, job: Job, trainer: Trainer, monitor: Monitor, max_replaced: int, state: dict[str, Any] | None, saved: Path | None
    ) -> None:
        self.job, self.trainer, self.monitor, self.max_replaced, self.saved = job, trainer, monitor, max_replaced, saved
        self.algorithm, self.processes = trainer.algorithm, trainer.processes
        here = state if state and state["pseudo_epoch"] == job.number else None
        self.step = int(here["step"]) if here else 0  # finished ones
        self.replaced = here.get("replaced", 0) if here else 0  # tiles, in them
        self._inputs = here["inputs"] if here else job.inputs
        rows, losses = (here["rows"], here["losses"]) if here else ([], [])
        path = job.work / "curve.csv" if self.processes.rank == 0 else None
        a_row, self.a_probe = spacing(job.length.steps_per_epoch)
        self.curve = Curve(path, rows, losses, a_row, job.events)
        if state:
            self.algorithm.load_state_dict(state["algorithm"])
            trainer.optimizer.load_state_dict(state["optimizer"])
        self.probe = state["probe"] if state else _first_tiles(job, max_replaced)
        self._asked_to_stop, self._stop_at = False, sys.maxsize
        self._replaced_here = 0  # in the step under way, by this process
        self._clock = (time.perf_counter(), self._done())

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "settings": self.job.settings,
            "inputs": self._inputs,
            "pseudo_epoch": self.job.number,
            "step": self.step,
            "replaced": self.replaced,
            "steps_per_epoch": self.job.length.steps_per_epoch,
            "algorithm": self.algorithm.state_dict(),
            "optimizer": self.trainer.optimizer.state_dict(),
            "probe": self.probe,
            "rows": self.curve.rows,
            "losses": self.curve.losses,
        }

    @contextmanager
    def heeding_stops(self) -> Iterator[None]:
        """While training, and while what came of it is written: a signal that asks to stop does not end this process at once."""
        before = {number: signal.signal(number, self._ask_to_stop) for number in STOPS}
        try:
            yield
        finally:
            for number, action in before.items():
                signal.signal(number, action)

    def train(self, save_every_s: float, max_batch: int, workers: int) -> None:
        """Train to the end of the pseudo-epoch.

        Raises:
            UserError: more than `max_replaced` tiles cannot be read; a loss is not finite; training collapsed.
            StoppedError: a signal asked one of the processes to stop, and the state is saved.
        """
        rank, world = self.processes.rank, self.processes.world
        batches = tile_batches(self.job.schedule, self.trainer.global_batch, rank, world, self.step, max_batch, workers, self.max_replaced)
        total = self.job.length.steps_per_epoch * self.trainer.global_batch
        saved_at = time.monotonic()
        with progress_bar(total, f"pseudo-epoch {self.job.number}", "image", silent=rank != 0) as bar:
            bar.initial = bar.n = self.step * self.trainer.global_batch
            for batch in batches:
                if not self._train_on(batch):
                    continue
                bar.update(self.trainer.global_batch)
                stop = self._done() > self._stop_at
                if stop or time.monotonic() - saved_at > save_every_s:
                    self.save()
                    saved_at = time.monotonic()
                if stop:
                    wait_for_one_another()  # who leaves before the state is saved looks like one that failed, and the others are ended
                    raise StoppedError(
                        f"Asked to stop at step {self._done()}. The state is saved in {self.job.work}: the same command goes on."
                    )
        self._take(self.trainer.arrived)

    def _train_on(self, batch: TileBatch) -> bool:
        """Train on a micro-batch; true where it completed a step."""
        images = batch.images.to(self.processes.device, non_blocking=True)
        step = self._done()
        self.trainer.accumulate(Tiles(images, batch.positions.numpy(), self.job.number), step, batch.last_of_step)
        self._replaced_here += len(batch.replaced)
        if batch.last_of_step:
            self.step += 1
            due = self.step % self.a_probe == 0 or self.step == self.job.length.steps_per_epoch
            self._take(self.trainer.update, step, self._asked_to_stop, self._measure if due else None, self._replaced_here)
            self._replaced_here = 0
        return batch.last_of_step

    def _done(self) -> int:
        """Finished steps of the whole run: the number (from 0) of the next one in the schedule."""
        return (self.job.number - 1) * self.job.length.steps_per_epoch + self.step

    def _measure(self) -> dict[str, torch.Tensor]:
        algorithm, recipe, images = self.algorithm, self.algorithm.recipe, self.probe.to(self.processes.device)
        features = collapse.probe_features(algorithm.encoder, images, algorithm.crop_px, recipe.mean, recipe.std, algorithm.pooling)
        return {"rankme": collapse.rankme(features)}

    def _take(self, finished: Callable[..., list[Outcome]], *arguments: Any) -> None:
        """Take in the numbers of the steps that have `finished`."""
        try:
            outcomes = finished(*arguments)
        except NotFiniteError as error:
            kept = f"The last good state, {self.saved}, is kept" if self.saved else f"No state was saved yet in {self.job.work}"
            raise UserError(f"{error}. {kept}. Lower lr_per_256 or lengthen warmup_epochs; with bf16, try fp32.") from None
        for outcome in outcomes:
            done, batch = outcome.step + 1, self.trainer.global_batch
            steps = self.job.length.steps_per_epoch
            tiles = done * batch
            position = {"step": done, "pseudo_epoch": done / steps, "imagenet_epochs": tiles / IMAGENET_IMAGES, "tiles_seen": tiles}
            self.replaced += outcome.replaced
            if self.replaced > self.max_replaced:
                found = f"{self.replaced} tiles of pseudo-epoch {self.job.number} could not be read"
                raise UserError(f"{found}, at most {self.max_replaced} may be replaced; the log names them.")
            self.curve.add(position, outcome.rates, outcome.values, partial(self._images_per_s, done), last=done % steps == 0)
            if outcome.stop:  # all processes act on it after the same step
                self._stop_at = min(self._stop_at, outcome.step + self.trainer.lag)
            if "rankme" in outcome.values:
                settled = outcome.step >= collapse.settled_from(self.algorithm.recipe, self.job.length)
                warning = collapse.judge(self.monitor, outcome.values, self.algorithm.out_dim, settled, f"step {done}")
                if warning and self.processes.rank == 0:  # all processes have the same values
                    print(f"microtome: {warning}", file=sys.stderr, flush=True)

    def _images_per_s(self, done: int) -> float:
        """From the step for which it was last asked to the end of step `done`, whose numbers have just arrived."""
        (then, before), now = self._clock, (time.perf_counter(), done)
        self._clock = now
        return (now[1] - before) * self.trainer.global_batch / (now[0] - then)

    def _ask_to_stop(self, *_: object) -> None:
        self._asked_to_stop = True

    def save(self) -> None:
        """Write a state to the work folder, once the numbers of all steps in it have proved finite."""
        self._take(self.trainer.arrived)
        if self.processes.rank == 0:
            self.saved = save_rolling(self.job.work, self.step, self.state(), before=self.saved)


def _first_tiles(job: Job, max_replaced: int) -> torch.Tensor:
    batch = min(PROBE, job.global_batch)
    return next(tile_batches(job.schedule, batch, 0, 1, 0, batch, 0, max_replaced)).images
