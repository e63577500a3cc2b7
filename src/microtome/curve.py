"""The training curve: a row now and then, kept with the state, so that a resumed run writes the same file."""

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from microtome.atomic import atomic_path
from microtome.training_schedules import Rates

IMAGENET_IMAGES = 1_281_167
ROWS = 1000  # at most, of a pseudo-epoch
PROBES = 10  # times the monitor looks in a pseudo-epoch, about
COLUMNS = (
    "step",  # finished, counted from 1 over the whole run
    "pseudo_epoch",
    "imagenet_epochs",  # tiles seen / images of ImageNet-1k
    "tiles_seen",
    "loss",  # mean since the row before
    "lr",
    "weight_decay",
    "momentum",
    "teacher_temp",
    "grad_norm",  # before clipping
    "images_per_s",
    "entropy",  # nats, of the teacher's mean output
    "spread",  # nats: that entropy less the mean entropy of single outputs
    "rankme",
)
Row = dict[str, float | None]


def spacing(steps: int) -> tuple[int, int]:
    """Steps from a row to the next and from a probe to the next in a pseudo-epoch of `steps`; every probe falls on a row."""
    a_row = -(-steps // ROWS)
    return a_row, a_row * max(1, steps // (a_row * PROBES))


class Curve:
    """Rows of one pseudo-epoch.

    Args:
        path: where it is written as it grows; None where another process does that.
        rows: those of a state that is resumed.
        losses: of the steps since the last of them.
        every: steps a row.
        events: folder in which TensorBoard finds the rows, too, each once: a resumed job shows those of its state again.
    """

    def __init__(self, path: Path | None, rows: list[Row], losses: list[float], every: int, events: Path | None = None) -> None:
        self.path, self.rows, self.losses, self.every = path, rows, losses, every
        self._events: Any = None
        self._folder = events if path is not None else None
        if path is not None:
            self.write(path)

    def add(
        self, position: Mapping[str, float], rates: Rates, values: Mapping[str, float], images_per_s: Callable[[], float], last: bool
    ) -> None:
        """Take in a step, and write a row where one is due. A step off the grid of rows counts in the next row's mean loss."""
        self.losses.append(values["loss"])
        if int(position["step"]) % self.every and not last:
            return
        row: Row = {**position, **vars(rates), "images_per_s": images_per_s(), **values, "loss": math.fsum(self.losses) / len(self.losses)}
        self.losses = []
        self.rows.append({name: row.get(name) for name in COLUMNS})
        if self.path is not None:
            with self.path.open("a", newline="") as file:
                _writer(file).writerow(self.rows[-1])
        if self._folder is not None:
            self._show(self._folder, last)

    def _show(self, folder: Path, last: bool) -> None:
        new = self.rows[-1:]
        if self._events is None:
            from tensorboardX import SummaryWriter  # few want it, and it takes its time

            new = self.rows
            self._events = SummaryWriter(str(folder), purge_step=int(new[0]["step"] or 0))  # TensorBoard forgets what it had from there on
        for row in new:
            for name, value in row.items():
                if value is not None and name != "step":
                    self._events.add_scalar(name, value, int(row["step"] or 0))
        if last:
            self._events.close()

    def write(self, path: Path) -> None:
        """Write all rows to `path`, whole or not at all."""
        with atomic_path(path) as part, part.open("w", newline="") as file:
            writer = _writer(file)
            writer.writeheader()
            writer.writerows(self.rows)


def _writer(file: object) -> "csv.DictWriter[str]":
    return csv.DictWriter(file, COLUMNS, lineterminator="\n")  # type: ignore[arg-type]
