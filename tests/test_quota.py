"""Shares of slides and organs: exact totals and caps, against a reference in exact arithmetic; parts with the cohort's organ mix."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.errors import UserError
from microtome.quota import fill, plan, share_out, split
from tests.stage_settings import schedule_settings


def water_level(total: int, weights: list[Fraction], caps: list[int]) -> list[Fraction]:
    """The textbook way, in exact arithmetic: share, fix what is over its cap, share the rest again."""
    given: dict[int, Fraction] = {}
    while True:
        left = total - sum(given.values())
        open_ = [i for i in range(len(caps)) if i not in given]
        shares = {i: left * weights[i] / sum(weights[j] for j in open_) for i in open_}
        over = {i: Fraction(caps[i]) for i in open_ if shares[i] >= caps[i]}
        if not over:
            return [given[i] if i in given else shares[i] for i in range(len(caps))]
        given |= over
        if len(given) == len(caps):
            return [given[i] for i in range(len(caps))]


@given(data=st.data(), caps=st.lists(st.integers(1, 10**6), min_size=1, max_size=30), seed=st.integers(0, 99))
def test_fill_is_water_filling_in_whole_numbers(data: st.DataObject, caps: list[int], seed: int) -> None:
    weights = data.draw(st.lists(st.integers(1, 10**6), min_size=len(caps), max_size=len(caps)))
    total = data.draw(st.integers(0, sum(caps)))
    given_ = fill(total, np.array(weights, float), np.array(caps), np.random.default_rng(seed))
    exact = water_level(total, [Fraction(w) for w in weights], caps)
    assert given_.sum() == total
    assert (given_ <= caps).all()
    assert (given_ >= 0).all()
    assert all(abs(int(g) - e) < 1 + 1e-6 for g, e in zip(given_, exact, strict=True))


cohorts = st.lists(st.lists(st.integers(1, 400), min_size=1, max_size=12), min_size=1, max_size=6)


@settings(deadline=None)
@given(
    cohort=cohorts,
    parts=st.integers(1, 5),
    tiles=st.integers(1, 3000),
    alpha=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    seed=st.integers(0, 9),
)
def test_plan(cohort: list[list[int]], parts: int, tiles: int, alpha: float, seed: int) -> None:
    organs = np.repeat(np.arange(len(cohort)), [len(organ) for organ in cohort])
    available = np.concatenate([np.array(organ) for organ in cohort])
    parts = min(parts, len(available))
    chosen = schedule_settings(seed, tiles=tiles, slide_parts=parts, organ_alpha=alpha, pseudo_epochs=2 * parts)
    shares = list(plan(organs, available, chosen))
    for share in shares:
        assert share.tiles.sum() == tiles
        times = share.tiles / available[share.slides]
        part = available[share.slides].sum()
        assert (times <= tiles // part + 1).all()  # so no tile twice while there are enough
        assert (times >= tiles // part).all()
    for first in (0, parts):  # every slide is in one part of each pass
        assert sorted(np.concatenate([share.slides for share in shares[first : first + parts]])) == list(range(len(available)))
    again = list(plan(organs, available, schedule_settings(seed, tiles=tiles, slide_parts=parts, organ_alpha=alpha, pseudo_epochs=1)))
    assert (again[0].tiles == shares[0].tiles).all()  # a share does not depend on how many follow
    assert (again[0].slides == shares[0].slides).all()


def test_every_slide_is_visited_in_each_pass() -> None:
    organs, tiles = np.repeat([0, 1, 2], [50, 20, 7]), np.random.default_rng(0).integers(20, 500, 77)
    shares = list(plan(organs, tiles, schedule_settings(tiles=2000, pseudo_epochs=3)))
    assert all((share.tiles > 0).all() for share in shares)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_organ_shares_meet_their_target(alpha: float) -> None:
    rng = np.random.default_rng(1)
    organs, tiles = np.repeat([0, 1, 2, 3], [400, 100, 30, 10]), rng.integers(500, 3000, 540)
    caps = tiles.copy()
    given_ = share_out(20_000, organs, tiles, caps, alpha, rng)
    reached = np.bincount(organs, given_) / 20_000
    available = np.bincount(organs, tiles)
    target = available**alpha / (available**alpha).sum()
    assert np.abs(reached - target).max() < 1 / 20_000
    assert max(np.ptp(given_[organs == organ]) for organ in range(4)) <= 1  # no cap binds: slides of an organ give alike


def test_what_a_small_organ_cannot_give_the_others_do() -> None:
    organs, tiles = np.array([0, 0, 1, 2]), np.array([1000, 1000, 1000, 10])
    given_ = share_out(900, organs, tiles, tiles, 0.0, np.random.default_rng(0))
    assert given_.tolist() in ([223, 222, 445, 10], [222, 223, 445, 10])


def test_a_cap_a_slide() -> None:
    organs, tiles = np.zeros(6, int), np.array([5, 100, 100, 100, 100, 100])
    shares = list(plan(organs, tiles, schedule_settings(tiles=60, slide_parts=1, max_tiles_per_slide=11, pseudo_epochs=1)))
    assert shares[0].tiles.tolist() == [5, 11, 11, 11, 11, 11]


def test_parts_have_the_cohorts_organ_mix_and_change_with_the_pass() -> None:
    organs = np.repeat(np.arange(4), [101, 50, 10, 3])
    first, second = (split(organs, 5, np.random.default_rng([0, 0, pass_])) for pass_ in (0, 1))
    assert np.ptp(np.bincount(first)) <= 1
    for organ in range(4):
        assert np.ptp(np.bincount(first[organs == organ], minlength=5)) <= 1
    assert 0.7 < (first != second).mean() < 0.9  # 4 of 5 slides move


def test_rare_organs_are_not_always_in_the_same_part() -> None:
    organs = np.append(np.zeros(9, int), 1)
    assert {int(split(organs, 5, np.random.default_rng(pass_))[-1]) for pass_ in range(40)} >= {0, 4}


def test_the_published_size_is_shared_out_to_the_last_tile() -> None:
    rng = np.random.default_rng(0)
    organs, tiles = np.minimum(rng.zipf(1.5, 84_712) - 1, 69), rng.integers(1, 20_000, 84_712)
    for total in (65_000_000, 3 * int(tiles.sum()) + 1):
        given_ = share_out(total, organs, tiles, tiles, 0.5, rng)
        assert given_.sum() == total
        assert (given_ // tiles >= total // tiles.sum()).all()
        assert (given_ <= tiles * -(-total // tiles.sum())).all()


def test_one_slide_gives_all() -> None:
    one = np.array([0])
    shares = list(plan(one, np.array([7]), schedule_settings(tiles=15, slide_parts=1, pseudo_epochs=2)))
    assert [(share.slides.tolist(), share.tiles.tolist()) for share in shares] == [([0], [15])] * 2
    assert fill(0, np.ones(3), np.array([4, 5, 6]), np.random.default_rng(0)).tolist() == [0, 0, 0]


def test_what_cannot_be_planned_is_refused() -> None:
    organs, tiles = np.array([0, 0]), np.array([3, 4])
    with pytest.raises(UserError, match=r"^schedule\.slide_parts: 2 slides cannot be split into 3 parts\. Lower it\.$"):
        next(plan(organs, tiles, schedule_settings(slide_parts=3)))
    with pytest.raises(UserError, match="60 tiles are wanted, but with max_tiles_per_slide 3 the 2 slides of pseudo-epoch 1 give 6"):
        next(plan(organs, tiles, schedule_settings(slide_parts=1, max_tiles_per_slide=3)))
