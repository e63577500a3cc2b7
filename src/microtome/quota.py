"""How many tiles each slide gives to each pseudo-epoch, so that organs are balanced. Arithmetic alone: no files.

Pass p = 0, 1, … splits all slides anew into `slide_parts` parts: shuffled within each organ and dealt out in turn, so that every part has
the cohort's organ mix (to one slide an organ) and every slide is in one part of each pass. Pseudo-epoch e = 1, 2, … takes part
(e - 1) mod slide_parts of pass (e - 1) div slide_parts. Its T tiles (`schedule.tiles`) are shared out thus:

    cap of slide s      c_s = min(n_s, max_tiles_per_slide), n_s its tiles
    target of organ o   T n_o^alpha / sum over organs of n^alpha, n_o the tiles of its slides in the part: alpha 1 natural, 0 uniform
    tiles of organ o    x_o = min(c_o, level * n_o^alpha), c_o the sum of its caps; the level is where the x_o sum to T
    tiles of slide s    x_s = min(c_s, level of o), the same for all slides of an organ; the level is where the x_s sum to x_o

So what an organ or a slide cannot give is shared among the others in proportion (water-filling), and a slide of an organ gives as much as
any other, or all it has. Shares become whole by largest remainder, ties by a seeded draw. All sums are exact.

A part with fewer than T tiles gives each of them T div n times; the T mod n that are left are shared out as above: no tile is repeated more
than once oftener than another. `max_tiles_per_slide` is never exceeded.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from microtome.errors import UserError
from microtome.settings import ScheduleSettings

Integers = npt.NDArray[np.int64]
SPLIT, TIES, VISITS, ORDER = range(4)  # streams of random numbers: the second number of a seed


class Share(NamedTuple):
    """What one pseudo-epoch takes: `slides` are positions in the arrays given to `plan`, `tiles` what each gives (>= 0)."""

    pseudo_epoch: int
    slides: Integers
    tiles: Integers


def plan(organs: Integers, tiles: Integers, settings: ScheduleSettings) -> Iterator[Share]:
    """Yield every pseudo-epoch's share. `organs`: a number 0, 1, … for each slide; `tiles`: its tiles, at least 1.

    A share does not depend on how many pseudo-epochs follow.

    Raises:
        UserError: fewer slides than parts; `max_tiles_per_slide` does not allow `schedule.tiles`.
    """
    schedule = settings.schedule
    if len(tiles) < schedule.slide_parts:
        raise UserError(f"schedule.slide_parts: {len(tiles)} slides cannot be split into {schedule.slide_parts} parts. Lower it.")
    for pseudo_epoch in range(1, schedule.pseudo_epochs + 1):
        pass_, part = divmod(pseudo_epoch - 1, schedule.slide_parts)
        parts = split(organs, schedule.slide_parts, np.random.default_rng([settings.seed, SPLIT, pass_]))
        slides = np.flatnonzero(parts == part)
        rng = np.random.default_rng([settings.seed, TIES, pseudo_epoch])
        caps = np.minimum(tiles[slides], schedule.max_tiles_per_slide or tiles.max())
        _check_capacity(pseudo_epoch, schedule.tiles, caps, schedule.max_tiles_per_slide)
        yield Share(pseudo_epoch, slides, share_out(schedule.tiles, organs[slides], tiles[slides], caps, schedule.organ_alpha, rng))


def _check_capacity(pseudo_epoch: int, total: int, caps: Integers, max_tiles_per_slide: int | None) -> None:
    if max_tiles_per_slide and total > caps.sum():
        raise UserError(
            f"schedule.tiles: {total} tiles are wanted, but with max_tiles_per_slide {max_tiles_per_slide} the {len(caps)} slides of "
            f"pseudo-epoch {pseudo_epoch} give {caps.sum()}. Raise max_tiles_per_slide (null: all tiles, repeated at need) or lower tiles."
        )


def split(organs: Integers, parts: int, rng: np.random.Generator) -> Integers:
    """The part (0 … parts - 1) of each slide: an organ's slides are dealt out evenly, and so are all slides."""
    organ_order = rng.permutation(organs.max() + 1)  # a rare organ is not in the same part of every pass
    dealt = np.lexsort((rng.random(len(organs)), organ_order[organs]))
    part = np.empty(len(organs), np.int64)
    part[dealt] = np.arange(len(organs)) % parts
    return part


def share_out(total: int, organs: Integers, tiles: Integers, caps: Integers, alpha: float, rng: np.random.Generator) -> Integers:
    """What each slide of a part gives so that the sum is `total`: the rules for organs and slides at the top of this module."""
    times, rest = divmod(total, int(caps.sum()))
    given = times * caps
    present, organ = np.unique(organs, return_inverse=True)  # an organ may have no slide in this part
    weights = np.power(np.bincount(organ, tiles), alpha)
    of_organ = fill(rest, weights, np.bincount(organ, caps).astype(np.int64), rng)
    for number in range(len(present)):
        slides = np.flatnonzero(organ == number)
        given[slides] += fill(int(of_organ[number]), np.ones(len(slides)), caps[slides], rng)
    return given


def fill(total: int, weights: npt.NDArray[np.float64], caps: Integers, rng: np.random.Generator) -> Integers:
    """Share `total` <= sum of `caps` in proportion to `weights` > 0, at most `caps` each: whole numbers whose sum is `total`."""
    if total == caps.sum():
        return caps
    exact = np.minimum(caps, _level(total, weights, caps) * weights)
    given = np.floor(exact).astype(np.int64)
    remainder = np.where(given < caps, exact - given, -1.0)
    largest_first = np.lexsort((rng.random(len(caps)), -remainder))
    given[largest_first[: total - given.sum()]] += 1
    return given


def _level(total: int, weights: npt.NDArray[np.float64], caps: Integers) -> float:
    """The level L at which the sum of min(caps, L weights) is `total` < sum of `caps`."""
    full_first = np.argsort(caps / weights, kind="stable")
    caps, weights = caps[full_first], weights[full_first]
    # If exactly the first k are full, the others share what is left: L_k. The first k that leaves the k-th below its cap is right.
    levels = (total - (np.cumsum(caps) - caps)) / np.cumsum(weights[::-1])[::-1]
    return float(levels[np.argmax(levels * weights <= caps)])
