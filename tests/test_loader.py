"""The loader: what it yields against Pillow over the tars, for every layout of processes; and every tile that cannot be read."""

import io
import itertools
import shutil
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch
from PIL import Image

from microtome.errors import UserError
from microtome.loader import TileBatch, steps_in, tile_batches
from microtome.schedule_file import ROW, Schedule, write_schedule
from tests.tile_folder import slide_table, tile_jpeg, write_tiles

TILES, GLOBAL_BATCH = 130, 12


def make(folder: Path, tile_px: int = 32) -> Path:
    """A schedule of 130 tiles of 5 slides."""
    slides = slide_table({"breast": [26] * 5}, shards=1).assign(tile_px=tile_px)
    write_tiles(folder / "tiles", slides)
    index = pa.ipc.open_file(str(folder / "tiles" / "0.arrow")).read_all()
    rows = np.zeros(TILES, ROW)
    rows["slide"], rows["tile"] = np.divmod(np.arange(TILES), 26)
    rows["block"], rows["size_b"] = index["offset_b"].to_numpy() // 512, index["size_b"].to_numpy()
    np.random.default_rng(0).shuffle(rows)
    write_schedule(folder / "1.arrow", rows, [str(folder / "tiles" / "0" / f"{slide}.tar") for slide in slides["slide"]], tile_px)
    return folder / "1.arrow"


@pytest.fixture(scope="module")
def schedule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("schedule"))


def batches(schedule: Path, rank: int = 0, world: int = 1, first_step: int = 0, micro_batch: int = 5, workers: int = 0) -> list[TileBatch]:
    return list(tile_batches(schedule, GLOBAL_BATCH, rank, world, first_step, micro_batch, workers))


def images_by_position(found: list[TileBatch]) -> dict[int, bytes]:
    return {
        int(position): image.numpy().tobytes() for batch in found for position, image in zip(batch.positions, batch.images, strict=True)
    }


def by_pillow(schedule: Path) -> dict[int, bytes]:
    opened = Schedule(schedule)
    jpegs = [tile_jpeg(Path(opened[position].tar).stem, opened[position].tile, 32) for position in range(len(opened))]
    return {position: np.asarray(Image.open(io.BytesIO(jpeg))).tobytes() for position, jpeg in enumerate(jpegs)}


@pytest.mark.parametrize(("world", "micro_batch", "workers"), [(1, 12, 0), (1, 5, 2), (2, 4, 0), (3, 100, 1), (12, 1, 0)])
def test_the_same_tile_at_each_position_for_every_layout(schedule: Path, world: int, micro_batch: int, workers: int) -> None:
    ranks = [batches(schedule, rank, world, 0, micro_batch, workers) for rank in range(world)]
    found = [images_by_position(rank) for rank in ranks]
    expected = by_pillow(schedule)
    assert sorted(itertools.chain(*found)) == list(range(TILES // GLOBAL_BATCH * GLOBAL_BATCH))  # the last 10 fill no step
    assert all(image == expected[position] for rank in found for position, image in rank.items())
    assert max(len(batch.positions) for rank in ranks for batch in rank) <= micro_batch


def test_micro_batches_of_a_step(schedule: Path) -> None:
    found = batches(schedule, rank=1, world=2, micro_batch=4)[:4]
    assert [(batch.step, batch.last_of_step, batch.positions.tolist()) for batch in found] == [
        (0, False, [6, 7, 8]),
        (0, True, [9, 10, 11]),
        (1, False, [18, 19, 20]),
        (1, True, [21, 22, 23]),
    ]
    assert found[0].images.shape == (3, 32, 32, 3)
    assert found[0].images.dtype == torch.uint8


def test_any_step_can_be_the_first(schedule: Path) -> None:
    assert steps_in(schedule, GLOBAL_BATCH) == 10
    whole = batches(schedule)
    for first_step in (1, 7, 10):
        rest = batches(schedule, first_step=first_step)
        assert images_by_position(rest) == images_by_position([batch for batch in whole if batch.step >= first_step])


def test_the_first_step_reads_nothing_before_it(schedule: Path, tmp_path: Path) -> None:
    shutil.copytree(schedule.parent, tmp_path, dirs_exist_ok=True)
    opened = Schedule(schedule)
    rows = np.array([(0, 0, opened[p].offset_b // 512, opened[p].size_b) for p in range(24)], ROW)
    rows["slide"][:12] = 1  # a tar that is not there
    tars = [opened[0].tar, str(tmp_path / "gone.tar")]
    rows[12:] = [(0, opened[0].tile, opened[0].offset_b // 512, opened[0].size_b)] * 12
    write_schedule(tmp_path / "2.arrow", rows, tars, 32)
    assert len(batches(tmp_path / "2.arrow", first_step=1, micro_batch=12)) == 1


def test_torchs_global_generator_is_left_alone(schedule: Path) -> None:
    state = torch.random.get_rng_state()
    batches(schedule, workers=1)
    assert torch.equal(torch.random.get_rng_state(), state)


def own_mb(process: psutil.Process) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


def test_a_workers_memory_does_not_grow(tmp_path: Path) -> None:
    schedule = make(tmp_path, tile_px=256)
    found = tile_batches(schedule, 5, 0, 1, 0, 5, 1)  # 26 batches of 1 MB
    before = set(psutil.Process().children())
    next(found)
    (worker,) = set(psutil.Process().children()) - before
    first_mb = own_mb(worker)
    assert sum(1 for _ in zip(range(22), found, strict=False)) == 22
    assert own_mb(worker) - first_mb < 6


def test_what_cannot_be_shared_is_refused(schedule: Path) -> None:
    with pytest.raises(UserError, match="global batch of 12 cannot be shared equally by 5 processes"):
        batches(schedule, world=5)
    with pytest.raises(UserError, match="130 tiles are fewer than one global batch of 131"):
        steps_in(schedule, 131)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_tar_names_tile_slide_file_and_offset(tmp_path: Path, workers: int) -> None:
    tile = Schedule(make(tmp_path))[3]
    where = rf"tile {tile.tile} of slide {Path(tile.tar).stem} \({tile.size_b} bytes at byte {tile.offset_b} of {tile.tar}\)"
    whole = Path(tile.tar).read_bytes()
    only = np.array([(0, tile.tile, tile.offset_b // 512, tile.size_b)] * GLOBAL_BATCH, ROW)
    write_schedule(tmp_path / "1.arrow", only, [tile.tar], 32)

    Path(tile.tar).write_bytes(whole[: tile.offset_b + 100])
    with pytest.raises(UserError, match=f"^{where}: expected {tile.size_b} bytes, found 100 before the end of the file"):
        batches(tmp_path / "1.arrow", workers=workers)
    Path(tile.tar).write_bytes(bytes(len(whole)))
    with pytest.raises(UserError, match=f"^{where}: expected a JPEG of 32 x 32 px, found "):
        batches(tmp_path / "1.arrow", workers=workers)
    Path(tile.tar).unlink()
    with pytest.raises(UserError, match=f"^{where}: cannot be opened: No such file or directory"):
        batches(tmp_path / "1.arrow", workers=workers)


def replaced_batches(schedule: Path, max_replaced: int, workers: int = 0) -> list[TileBatch]:
    return list(tile_batches(schedule, GLOBAL_BATCH, 0, 1, 0, 5, workers, max_replaced))


def test_a_stand_in_is_the_tile_half_a_schedule_further_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    schedule = make(tmp_path)
    expected = by_pillow(schedule)
    bad = Schedule(schedule)[100]  # 100 + 65 - 130 = 35
    with Path(bad.tar).open("r+b") as tar:
        tar.seek(bad.offset_b)
        tar.write(bytes(bad.size_b))
    with pytest.raises(UserError, match=f"^tile {bad.tile} of slide"):
        replaced_batches(schedule, 0)
    found = replaced_batches(schedule, 1)
    assert images_by_position(found) == {p: image for p, image in {**expected, 100: expected[35]}.items() if p < 120}
    assert [len(batch.replaced) for batch in found if 100 in batch.positions] == [1]
    assert f"Replaced, 1 of at most 1: tile {bad.tile} of slide {Path(bad.tar).stem}" in capfd.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_stand_ins_are_limited(tmp_path: Path, workers: int) -> None:
    schedule = make(tmp_path)
    Path(Schedule(schedule)[0].tar).unlink()
    with pytest.raises(UserError, match=r"tiles could not be read, at most 3 may be replaced\. The last: tile \d+ of slide"):
        replaced_batches(schedule, 3, workers)
