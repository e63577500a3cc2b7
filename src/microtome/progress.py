"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable, Iterator
from typing import Never, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

LOG_EVERY_S = 30.0


def progress_bar(total: int | None, what: str, unit: str, silent: bool = False) -> "tqdm[Never]":
    """A tqdm bar to `update(n)` by hand; `unit` is what is counted ("tile"). In a log it prints a line every 30 s; `silent`: nothing."""
    every_s = 0.1 if sys.stderr.isatty() else LOG_EVERY_S
    return tqdm(total=total, desc=what, unit=f" {unit}", mininterval=every_s, maxinterval=every_s, dynamic_ncols=True, disable=silent)


def progress(items: Iterable[Item], total: int, what: str, unit: str) -> Iterator[Item]:
    """Yield `items` while a bar counts them."""
    with progress_bar(total, what, unit) as bar:
        for item in items:
            yield item
            bar.update(1)
