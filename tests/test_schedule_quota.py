"""Quotas: exact totals, caps, organ shares against a float64 reference, even visits; and every input that must be refused."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.config import Schedule
from microtome.errors import UserError
from microtome.quota import fill, plan, share_out, split
from microtome.schedule_quota import schedule_quota
from microtome.settings import ScheduleSettings
from tests.tile_folder import slide_table, write_catalog


def schedule_settings(seed: int = 0, **changes: object) -> ScheduleSettings:
    values = {"version": 1, "pseudo_epochs": 6, "tiles": 60, "slide_parts": 3, "organ_alpha": 0.5, "max_tiles_per_slide": None}
    schedule = Schedule.model_validate({**values, "block": 1, "exclude_tasks": [], **changes})
    return ScheduleSettings(seed=seed, schedule=schedule)


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


# The rule: files in, files out


Tables = tuple[pd.DataFrame, pd.DataFrame]


def run_quota(folder: Path, slides: pd.DataFrame, task: str = "", seed: int = 0, **changes: object) -> Tables:
    catalog = write_catalog(folder / "catalog.parquet", slides)
    (folder / "task.csv").write_text(task)
    quota, balance = folder / "quota" / "slides.parquet", folder / "quota" / "balance.csv"
    schedule_quota(catalog, quota, balance, schedule_settings(seed, **changes), [folder / "task.csv"] if task else [])
    return pd.read_parquet(quota), pd.read_csv(balance)


COHORT = {"breast": [40, 30, 20, 50, 60], "colon": [25, 35, 15], "eye": [12]}


def test_quota_table(tmp_path: Path) -> None:
    quota, _ = run_quota(tmp_path, slide_table(COHORT))
    expected = ["slide", "shard", "organ", "pseudo_epoch", "tiles", "before", "slide_tiles", "tile_px"]
    assert list(quota.columns) == expected
    assert (quota.groupby("pseudo_epoch")["tiles"].sum() == 60).all()
    assert (quota["tiles"] > 0).all()
    in_order = quota.sort_values("pseudo_epoch", kind="stable")
    assert (in_order["before"] == in_order.groupby("slide")["tiles"].cumsum() - in_order["tiles"]).all()
    for _, part in quota.groupby("pseudo_epoch"):
        assert part[["shard", "slide"]].apply(tuple, axis=1).is_monotonic_increasing  # as the indexes are, so that they are read once


def test_same_bytes_twice_and_others_with_another_seed(tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_quota(tmp_path / name, slide_table(COHORT), seed=seed)
        texts.append((tmp_path / name / "quota" / "slides.parquet").read_bytes())
    assert texts[0] == texts[1] != texts[2]


def test_balance(tmp_path: Path) -> None:
    quota, balance = run_quota(tmp_path, slide_table(COHORT), tiles=100)
    each = balance[balance["pseudo_epoch"] != "all"]
    assert (each.groupby("pseudo_epoch")["tiles"].sum() == 100).all()
    for share in ("natural_share", "target_share", "reached_share"):
        assert np.allclose(balance.groupby("pseudo_epoch")[share].sum(), 1)
    drawn = quota.groupby(["pseudo_epoch", "organ"])["tiles"].sum()
    for row in each.itertuples():
        assert row.tiles == drawn.get((int(row.pseudo_epoch), row.organ), 0)
    for kind, counted in reuse_by_simulation(quota).items():
        assert each.groupby(each["pseudo_epoch"].astype(int))[kind].sum().to_dict() == counted
    everything = balance[balance["pseudo_epoch"] == "all"].set_index("organ")
    assert everything["tiles"].to_dict() == quota.groupby("organ")["tiles"].sum().to_dict()


def reuse_by_simulation(quota: pd.DataFrame) -> dict[str, dict[int, int]]:
    """Count tile by tile: a slide's visits go round and round over its tiles."""
    seen: set[tuple[str, int]] = set()
    repeated, seen_before = {}, {}
    for pseudo_epoch, rows in quota.groupby("pseudo_epoch"):
        drawn = [(row.slide, (row.before + visit) % row.slide_tiles) for row in rows.itertuples() for visit in range(row.tiles)]
        repeated[pseudo_epoch] = len(drawn) - len(set(drawn))
        seen_before[pseudo_epoch] = len(set(drawn) & seen)
        seen |= set(drawn)
    return {"repeated": repeated, "seen_before": seen_before}  # type: ignore[dict-item]


def test_who_takes_part(tmp_path: Path) -> None:
    slides = slide_table({"breast": [40] * 8})
    slides["status"] = ["ok", "failed", "empty", "excluded", *["ok"] * 4]
    slides["pretrain"] = [True] * 4 + [False] + [True] * 3
    slides["patient"] = ["p0", "p1", "p2", "p3", "p4", "shared", "shared", "p7"]
    slides["case"] = [None, None, None, None, None, "c1", "c2", "c1"]
    quota, _ = run_quota(tmp_path / "all", slides, slide_parts=1)
    assert set(quota["slide"]) == {"slide000", "slide005", "slide006", "slide007"}
    # slide005 is evaluated: slide006 is of its patient, slide007 of its case
    quota, _ = run_quota(tmp_path / "guarded", slides, "slide,target\nslide005,1\nslide004,0\n", slide_parts=1)
    assert set(quota["slide"]) == {"slide000"}


def test_refused(tmp_path: Path) -> None:
    nobody = slide_table(COHORT, pretrain=False)
    with pytest.raises(UserError, match=r"no slide can be scheduled\. Of 9 slides 9 have tiles, of these 0 may be pretrained on"):
        run_quota(tmp_path / "a", nobody)
    with pytest.raises(UserError, match=r"slide_parts: 2 slides cannot be split into 3 parts"):
        run_quota(tmp_path / "b", slide_table({"eye": [3, 4]}))
    with pytest.raises(UserError, match="60 tiles are wanted, but with max_tiles_per_slide 9 the 3 slides of pseudo-epoch 1 give 27"):
        run_quota(tmp_path / "c", slide_table(COHORT), max_tiles_per_slide=9)
    with pytest.raises(UserError, match="slides that are not in the cohort: nowhere"):
        run_quota(tmp_path / "d", slide_table(COHORT), "slide,target\nslide001,1\nnowhere,0\n")
