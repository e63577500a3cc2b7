"""Random numbers that belong to a sample's position: the same on any number of processes, micro-batches and workers.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a key (seed, stream) and a counter (position,
pseudo-epoch, which number) into four 32-bit words. Nothing is kept between calls, so nothing has to be saved to resume.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1
ROUNDS = 10
WORD = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


class Stream(IntEnum):
    """What numbers are drawn for; numbers of different streams are independent."""

    MASK = 1
    VIEW = 1000  # plus the number of the view
    DROP_PATH = 2000  # plus the number of the view


def philox(counter: tuple[NDArray[np.uint64], ...], key: tuple[int, int]) -> tuple[NDArray[np.uint64], ...]:
    """Philox4x32-10: four words of counter (arrays that broadcast, each value below 2^32) and two of key to four random words."""
    c0, c1, c2, c3 = counter
    for turn in range(ROUNDS):
        k0, k1 = (np.uint64((word + turn * step) & 0xFFFFFFFF) for word, step in zip(key, KEY_STEPS, strict=True))
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (product1 >> HALF) ^ c1 ^ k0, product1 & WORD, (product0 >> HALF) ^ c3 ^ k1, product0 & WORD
    return c0, c1, c2, c3


def uniforms(seed: int, stream: int, pseudo_epoch: int, positions: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """`count` numbers in [0, 1) for each of n samples: float32 [n, count], multiples of 2^-24.

    Args:
        seed: of the experiment, at most 64 bits.
        stream: what the numbers are for (`Stream`).
        pseudo_epoch: in which the samples stand.
        positions: [n], of the samples in the schedule of that pseudo-epoch; below 2^32.
        count: numbers a sample. The first ones do not depend on it.
    """
    which = np.arange(-(-count // 4), dtype=np.uint64)[None]
    where = positions.astype(np.uint64)[:, None]
    constant = [np.full((1, 1), value, dtype=np.uint64) for value in (pseudo_epoch, (seed >> 32) & 0xFFFFFFFF)]
    words = philox((which, where, *constant), (seed & 0xFFFFFFFF, int(stream)))
    drawn = np.stack(np.broadcast_arrays(*words), axis=-1).reshape(len(positions), -1)[:, :count]
    return (drawn >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)
