"""The slides of a task as bags of tile features, read once and kept as near to where they are used as memory allows.

On a GPU if they fit there with room for a step, else in the memory of the machine, else in their files, from which each use reads them
again. What is used is the same wherever it lies.
"""

import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from microtome.errors import UserError
from microtome.feature_store import read_features
from microtome.memory import free_device_b, free_host_b, pinned
from microtome.progress import progress

HOST_SHARE = 0.6  # of the machine's free memory may go to features; what it does beside needs the rest

# A GPU keeps a share free, and no less than STEP_B, for the nets and the buffers of a step, which is split to what is left. Of a published
# task (2,000 slides x 7,600 tiles, 40 nets), 2,048 features are 124.5 GB of the 149 that an H200 has free. 24.5 are left: 1.1 for weights,
# gradients and moments; a step may take half, at 42 kB a tile (`Nets.bytes_a_tile`) 288,000 of the 304,000 tiles of 40 slides at once.
# STEP_B is enough for those nets and a slide of 140,000 tiles; one of 384 features costs 23 kB a tile.
GPU_SHARE, STEP_B = 0.85, 8e9


@dataclass(frozen=True)
class Files:
    """Features that stay in their files: a path a slide, what each holds [tiles, d], and its dtype."""

    paths: list[Path]
    shapes: list[tuple[int, int]]
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """[all tiles, d]."""
        return sum(tiles for tiles, _ in self.shapes), self.shapes[0][1]

    @property
    def device(self) -> torch.device:
        """Where a slide's features are when they are read."""
        return torch.device("cpu")

    def read(self, slide: int) -> Tensor:
        """[t, d] of slide number `slide`."""
        return torch.from_numpy(read_features(self.paths[slide], *self.shapes[slide]))


@dataclass(frozen=True)
class Bags:
    """The slides of a task as bags of tile features."""

    slides: list[str]
    targets: Tensor  # [slides] int64
    features: Tensor | Files  # [all tiles, d], as stored: float32 or float16
    first: list[int]  # [slides + 1]: slide s has the tiles first[s] to first[s + 1]

    @property
    def dim(self) -> int:
        """The dimension d of a tile's features."""
        return int(self.features.shape[1])

    @property
    def classes(self) -> int:
        """How many classes the task has; every split has slides of each."""
        return int(self.targets.max()) + 1

    def count(self, slide: int) -> int:
        """How many tiles slide number `slide` has."""
        return self.first[slide + 1] - self.first[slide]

    def stored(self, slide: int) -> Tensor:
        """[t, d] as stored, where it is stored: the features of slide number `slide`."""
        if isinstance(self.features, Files):
            return self.features.read(slide)
        return self.features[self.first[slide] : self.first[slide + 1]]

    def tiles(self, slide: int) -> Tensor:
        """[t, d] float32: the features of slide number `slide`."""
        return self.stored(slide).float()


def groups_of(bags: Bags, slides: Sequence[int], rows: int) -> Iterator[list[int]]:
    """`slides` in their order, as many at a time as have `rows` tiles together; at least one."""
    group: list[int] = []
    for slide in slides:
        if group and sum(map(bags.count, group)) + bags.count(slide) > rows:
            yield group
            group = []
        group.append(slide)
    if group:
        yield group


def on_device(bags: Bags, groups: Iterable[Sequence[int]], rows: int, device: torch.device) -> Iterator[list[Tensor]]:
    """The tiles of each group of slides, float32, on the device; at most `rows` tiles a group.

    Where they are not there, they are copied while the group before is used: into two buffers in turn, each of which is overwritten once
    the device is through with what was asked of it before the next group was. The host waits for neither.
    """
    if bags.features.device.type == device.type:
        yield from ([bags.tiles(slide) for slide in group] for group in groups)
        return
    side, current = _side_stream(device), torch.cuda.current_stream(device)
    buffers = [torch.empty(rows, bags.dim, device=device) for _ in range(2)]
    used = [current.record_event() for _ in buffers]
    for number, group in enumerate(groups):
        sizes = [bags.count(slide) for slide in group]
        tiles = list(torch.split_with_sizes(buffers[number % 2][: sum(sizes)], sizes))
        with torch.cuda.stream(side):
            side.wait_event(used[number % 2])
            for slide, one in zip(group, tiles, strict=True):
                one.copy_(pinned(bags.stored(slide), device), non_blocking=True)
        current.wait_stream(side)
        yield tiles
        used[number % 2] = current.record_event()


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The one that copies: the allocator does not share memory between streams."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _pin(features: Tensor) -> None:
    """Pin memory where it is: what torch allocates as pinned is rounded up to a power of two, which may be twice as much."""
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    torch.cuda.check_error(runtime.cudaHostRegister(features.data_ptr(), features.nbytes, 0))
    weakref.finalize(features, runtime.cudaHostUnregister, features.data_ptr())


def read_bags(tables: Sequence[Path], task: pd.DataFrame, device: torch.device) -> tuple[Bags, pd.DataFrame]:
    """Read the features of a task's slides, once, to where they are kept.

    Args:
        tables: the feature tables of one encoder (slide, status, reason, tiles, dim, path).
        task: slide, target. device: that will use them.

    Returns:
        bags: the slides that have features, in the order of `task`. excluded: slide, reason of the others.

    Raises:
        UserError: no slide has features, or one has them twice; features of more than one dimension or dtype; a file that is not as its
            row says.
    """
    made = pd.concat([pd.read_parquet(table) for table in tables], ignore_index=True)
    twice = sorted(set(task["slide"]) & set(made["slide"][made["slide"].duplicated()]))
    if twice:
        found = ", ".join(map(str, tables))
        raise UserError(f"Slide {twice[0]} has features more than once in {found}. Expected each slide in one table of one encoder.")
    rows = task[["slide", "target"]].merge(made, on="slide", how="left")
    usable = rows["status"].eq("ok") & rows["tiles"].gt(0)
    reason = (rows["status"] + ": " + rows["reason"].fillna("")).fillna("no features were made of it").str.removesuffix(": ")
    excluded = rows.assign(reason=reason).loc[~usable, ["slide", "reason"]]
    rows = rows[usable].astype({"tiles": int, "dim": int})
    if rows.empty:
        slide, why = excluded.iloc[0]
        raise UserError(f"None of the {len(task)} slides of the task has features; {slide}, say: {why}. Expected some: see {tables[0]}.")
    _check_one_dimension(rows)
    first = [0, *(int(last) for last in rows["tiles"].cumsum())]
    features = _read_all(rows, first, device)
    return Bags(list(rows["slide"]), torch.tensor(rows["target"].tolist()), features, first), excluded


def _read_all(rows: pd.DataFrame, first: list[int], device: torch.device) -> Tensor | Files:
    """Every file is read and checked, also where all of them stay files."""
    shapes = list(zip(rows["tiles"].tolist(), rows["dim"].tolist(), strict=True))
    blocks = (torch.from_numpy(read_features(Path(path), *shape)) for path, shape in zip(rows["path"], shapes, strict=True))
    features: Tensor | Files | None = None
    for slide, block in enumerate(progress(blocks, len(rows), "read features", "slide")):
        if features is None:
            files = Files([Path(path) for path in rows["path"]], shapes, block.dtype)
            features = _room_for(files, device)
        if block.dtype != files.dtype:
            other = f"{block.dtype} (slide {rows['slide'].iloc[slide]}), before it {files.dtype}"
            raise UserError(f"Features of more than one dtype: {other}. Expected those of one encoder: make them anew with one.")
        if isinstance(features, Tensor):
            features[first[slide] : first[slide + 1]] = block
    assert features is not None  # there are rows
    return features


def _room_for(files: Files, device: torch.device) -> Tensor | Files:
    """An empty tensor where all features fit, or the files as they are; the log says which, and what was free."""
    tiles, dim = files.shape
    needed, host, beside = tiles * dim * files.dtype.itemsize, free_host_b(), ""
    what = f"{tiles:,} tiles x {dim} of {files.dtype}, {_gb(needed)}"
    if device.type == "cuda":
        gpu = free_device_b(device)
        if needed <= gpu_room_b(gpu):
            print(f"{what}, stay on the GPU, which has {_gb(gpu)} free", file=sys.stderr)
            return torch.empty(tiles, dim, dtype=files.dtype, device=device)
        beside = f"; the GPU, with {_gb(gpu)} free, gets them slide by slide"
    if needed <= HOST_SHARE * host:
        print(f"{what}, stay in memory, of which {_gb(host)} is free{beside}", file=sys.stderr)
        features = torch.empty(tiles, dim, dtype=files.dtype)
        if device.type == "cuda":
            _pin(features)
        return features
    print(f"{what}, stay in their files and are read at every use, because {_gb(host)} of memory is free{beside}", file=sys.stderr)
    return files


def gpu_room_b(free_b: float) -> float:
    """How much of what a GPU has free may go to features."""
    return min(GPU_SHARE * free_b, free_b - STEP_B)


def _gb(size_b: int) -> str:
    return f"{size_b / 1e9:,.1f} GB"


def _check_one_dimension(rows: pd.DataFrame) -> None:
    examples = rows.groupby("dim")["slide"].first()
    if len(examples) > 1:
        found = ", ".join(f"{dim} (slide {slide})" for dim, slide in examples.items())
        raise UserError(f"Features of more than one dimension: {found}. Expected those of one encoder: delete its features and run again.")
