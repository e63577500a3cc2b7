"""Processes that train together: alone, and two that meet, share, and part."""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from microtome.distributed import Processes, gathered, processes, sum_over_processes
from microtome.errors import StoppedError, UserError
from microtome.launch import free_port


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("world", [None, "1"])
def test_alone_there_is_no_group_and_a_sum_is_what_it_was(monkeypatch: pytest.MonkeyPatch, world: str | None) -> None:
    if world:
        monkeypatch.setenv("WORLD_SIZE", world)
    with processes() as team:
        assert team == Processes(0, 1, torch.device("cpu"))
        assert not dist.is_initialized()
        values = torch.tensor([1.0, 2.0])
        assert sum_over_processes(values) is values
        assert values.tolist() == [1, 2]


def _member(rank: int, port: int, folder: Path, end: Exception | None) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    seen: list[Any] = []
    try:
        with processes() as team:
            values = torch.tensor([1.0, 10.0**rank])
            assert sum_over_processes(values) is values
            seen = [team.rank, team.world, str(team.device), values.tolist(), gathered("ab"[rank])]
            if end:
                raise end
    except (StoppedError, KeyError) as error:
        seen.append(type(error).__name__)
    (folder / str(rank)).write_text(json.dumps([*seen, dist.is_initialized()]))


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(
    ("end", "left"), [(None, [False]), (StoppedError("saved"), ["StoppedError", False]), (KeyError("failed"), ["KeyError", False])]
)
def test_two_share_a_sum_and_leave_the_group_however_they_end(end: Exception | None, left: list[object], tmp_path: Path) -> None:
    port = free_port()
    forks = multiprocessing.get_context("fork")
    members = [forks.Process(target=_member, args=(rank, port, tmp_path, end)) for rank in range(2)]
    for member in members:
        member.start()
    for member in members:
        member.join(60)
    assert [member.exitcode for member in members] == [0, 0]
    shared = ["cpu", [2, 11], ["a", "b"]]
    assert [json.loads((tmp_path / str(rank)).read_text()) for rank in range(2)] == [[rank, 2, *shared, *left] for rank in range(2)]


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    said = "Expected a GPU for each process of this machine, found 2 for process 3. Set `processes` of `pretrain` in the profile to"
    with pytest.raises(UserError, match=said), processes():
        pass
