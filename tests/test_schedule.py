"""A pseudo-epoch's file: what it holds against the tars themselves, even visits, order; and every input that must be refused."""

import itertools
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.errors import UserError
from microtome.schedule import WINDOW_BLOCKS, Visit, schedule, shuffle, visited_tiles
from microtome.schedule_file import ROW, Schedule
from microtome.schedule_quota import schedule_quota
from tests.stage_settings import schedule_settings
from tests.tile_folder import slide_table, tile_jpeg, write_catalog, write_tiles

ORGANS = {"breast": [40, 30, 20, 50, 60], "colon": [25, 35, 15], "eye": [12]}


@given(
    slide_tiles=st.integers(1, 60),
    visits=st.lists(st.integers(1, 100), min_size=1, max_size=6),
    block=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_tiles_are_visited_evenly(slide_tiles: int, visits: list[int], block: int, seed: int) -> None:
    seen: Counter[int] = Counter(dict.fromkeys(range(slide_tiles), 0))
    for before, tiles in zip(itertools.accumulate([0, *visits]), visits, strict=False):
        visited = visited_tiles(Visit("s", "0", tiles, before, slide_tiles, 0), block, seed)
        assert len(visited) == tiles
        assert len(set(visited.tolist())) == min(tiles, slide_tiles)  # none twice while there are others
        seen.update(visited.tolist())
    assert set(seen) == set(range(slide_tiles))
    assert max(seen.values()) - min(seen.values()) <= 1  # none a third time before all others once


def test_blocks_are_consecutive_tiles() -> None:
    visited = visited_tiles(Visit("s", "0", 103, 0, 103, 0), 10, 0)
    assert (np.diff(visited) == 1).sum() >= 103 - 11


def stretches(lengths: list[int]) -> np.ndarray:
    rows = [(slide, tile, 0, 0) for slide, length in enumerate(lengths) for tile in range(length)]
    return np.array(rows, dtype=ROW)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=200), block=st.integers(1, 5), seed=st.integers(0, 5))
def test_shuffle_keeps_every_row(lengths: list[int], block: int, seed: int) -> None:
    rows = stretches(lengths)
    shuffled = shuffle(rows.copy(), block, np.random.default_rng(seed))
    assert sorted(shuffled.tolist()) == sorted(rows.tolist())


def test_shuffle_of_blocks_keeps_neighbours_near_and_mixes_slides() -> None:
    shuffled = shuffle(stretches([8] * 5000), 8, np.random.default_rng(0))
    places = pd.Series(np.arange(len(shuffled))).groupby(shuffled["slide"])
    assert (places.max() - places.min()).max() < WINDOW_BLOCKS * 8
    assert (places.max() - places.min()).median() > WINDOW_BLOCKS  # not side by side
    assert abs(np.corrcoef(places.min(), np.arange(5000))[0, 1]) < 0.05  # and slides come in no order


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    slides = slide_table(ORGANS)
    write_tiles(folder / "tiles", slides)
    schedule_quota(
        write_catalog(folder / "slides.parquet", slides), folder / "quota.parquet", folder / "b.csv", schedule_settings(tiles=50)
    )
    return folder


def make(drawn: Path, pseudo_epoch: int, path: Path, **changes: object) -> Path:
    schedule(drawn / "quota.parquet", drawn / "tiles", pseudo_epoch, path, schedule_settings(tiles=50, **changes))
    return path


def test_every_row_is_a_tile_of_its_tar(drawn: Path, tmp_path: Path) -> None:
    quota = pd.read_parquet(drawn / "quota.parquet")
    for pseudo_epoch, block in ((1, 1), (2, 1), (2, 4)):
        made = Schedule(make(drawn, pseudo_epoch, tmp_path / "s.arrow", block=block))
        tiles = [made[position] for position in range(len(made))]
        assert made.tile_px == 32
        for tile in tiles:
            with tarfile.open(tile.tar) as tar:
                member = tar.getmembers()[tile.tile]
            assert (tile.offset_b, tile.size_b) == (member.offset_data, member.size)
            assert Path(tile.tar).read_bytes()[tile.offset_b :][: tile.size_b] == tile_jpeg(Path(tile.tar).stem, tile.tile, 32)
        wanted = quota[quota["pseudo_epoch"] == pseudo_epoch].set_index("slide")
        assert Counter(Path(tile.tar).stem for tile in tiles) == wanted["tiles"].to_dict()
        assert max(Counter(tiles).values()) == np.ceil(wanted["tiles"] / wanted["slide_tiles"]).max()


def test_the_same_bytes_from_the_seed_alone(drawn: Path, tmp_path: Path) -> None:
    bytes_of = {name: make(drawn, 2, tmp_path / f"{name}.arrow", seed=seed).read_bytes() for name, seed in (("a", 0), ("b", 0), ("c", 1))}
    assert bytes_of["a"] == bytes_of["b"] != bytes_of["c"]


def test_slides_that_join_a_shard_change_nothing(drawn: Path, tmp_path: Path) -> None:
    before = make(drawn, 1, drawn / "before.arrow").read_bytes()
    newcomers = slide_table({"breast": [7, 8, 9]}).assign(slide=["a0", "a1", "a2"])  # the first of each shard: every first row moves
    grown = pd.concat([newcomers, slide_table(ORGANS)])
    write_tiles(drawn / "tiles", grown)
    assert make(drawn, 1, drawn / "after.arrow").read_bytes() == before


def make_all(drawn: Path, tiles: Path) -> None:
    for pseudo_epoch in (1, 2, 3):
        schedule(drawn / "quota.parquet", tiles, pseudo_epoch, tiles / f"s{pseudo_epoch}.arrow", schedule_settings())


def test_refused(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pseudo-epoch 7 was not planned, expected 1 to 6"):
        make(drawn, 7, tmp_path / "s.arrow")
    with pytest.raises(UserError, match=r"q.parquet: no such file\. `snakemake"):
        schedule(tmp_path / "q.parquet", drawn / "tiles", 1, tmp_path / "s.arrow", schedule_settings())
    with pytest.raises(UserError, match=r"\d.parquet: no such file.*raise schedule.version"):
        make_all(drawn, tmp_path)
    slides = slide_table(ORGANS)
    write_tiles(tmp_path, slides.assign(tiles=slides["tiles"].where(slides["slide"] != "slide000", 39)))
    with pytest.raises(UserError, match=r"slide slide000: expected 40 tiles, found 39 \(1 such slides\)"):
        make_all(drawn, tmp_path)
    write_tiles(tmp_path, slides)
    make_all(drawn, tmp_path)
    (tmp_path / "1.arrow").unlink()
    with pytest.raises(UserError, match=r"1.arrow: no such file"):
        make_all(drawn, tmp_path)
