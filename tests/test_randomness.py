"""Philox against the known answers of its authors' library (Random123), and what uniforms promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.randomness import Stream, philox, uniforms

# counter, key, output: `kat_vectors` of Random123, philox4x32 10
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter: str, key: str, answer: str) -> None:
    arrays = tuple(np.array([word], dtype=np.uint64) for word in words(counter))
    assert [int(word[0]) for word in philox(arrays, tuple(words(key)))] == words(answer)


@given(
    st.integers(0, 2**64 - 1), st.integers(1, 50), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6), st.integers(1, 9), st.data()
)
@settings(max_examples=60, deadline=None)
def test_a_sample_has_its_numbers_whoever_stands_beside_it(
    seed: int, epoch: int, positions: list[int], count: int, data: st.DataObject
) -> None:
    together = uniforms(seed, Stream.MASK, epoch, np.array(positions), count)
    which = data.draw(st.integers(0, len(positions) - 1))
    alone = uniforms(seed, Stream.MASK, epoch, np.array(positions[which : which + 1]), count + 5)
    assert together.dtype == np.float32
    assert np.array_equal(together[which], alone[0, :count])
    assert ((together >= 0) & (together < 1)).all()


def test_numbers_are_uniform_and_change_with_every_coordinate() -> None:
    drawn = uniforms(0, Stream.MASK, 1, np.arange(4000), 50)
    assert drawn.mean() == pytest.approx(0.5, abs=4 * (1 / 12 / drawn.size) ** 0.5)
    assert drawn.var() == pytest.approx(1 / 12, rel=0.01)
    assert np.abs(np.corrcoef(drawn[:, :8].T) - np.eye(8)).max() < 0.08
    for other in ((1, 1, 1), (1 << 32, 1, 1), (0, 2, 1), (0, 1, 2)):
        changed = uniforms(other[0], other[1], other[2], np.arange(4000), 50)
        assert abs(np.corrcoef(drawn.ravel(), changed.ravel())[0, 1]) < 0.01
