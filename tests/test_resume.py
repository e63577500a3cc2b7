"""Where a pseudo-epoch starts: at which of the states that are there, and which it names and passes over."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from microtome.checkpoint import load_state, mapped_state, save_state
from microtome.distributed import processes
from microtome.errors import UserError
from microtome.launch import free_port
from microtome.pretrain import pretrain
from microtome.resume import Job, beginning, end_of, unfinished
from microtome.training_schedules import Length
from tests.training import FORKS, arguments, drawn_schedules, finish, rows, small_settings, start, wait_for


@pytest.fixture(scope="module")
def schedules(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return drawn_schedules(tmp_path_factory.mktemp("schedule"))


def test_a_damaged_rolling_state_is_named_and_the_one_before_is_used(schedules: list[Path], tmp_path: Path) -> None:
    settings = small_settings("mae")
    finish(arguments(tmp_path / "undisturbed", schedules[0], settings))
    values = arguments(tmp_path / "damaged", schedules[0], settings, save_every_minutes=1e-9)
    process = start(values, tmp_path / "log")
    wait_for(lambda: len(list(values["work"].glob("state_*.pt"))) == 2, process)
    process.kill()
    process.join()
    newest = max(values["work"].glob("state_*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert f"{newest}: its {newest.stat().st_size} bytes do not have the checksum" in finish({**values, "save_every_minutes": 10.0})
    assert rows(tmp_path / "damaged/1/curve.csv") == rows(tmp_path / "undisturbed/1/curve.csv")


def test_a_damaged_end_is_made_again_from_the_state_before_it(
    schedules: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small_settings("mae")
    values = arguments(tmp_path, schedules[0], settings, save_every_minutes=1e-9)
    pretrain(**values)
    curve, encoder = rows(values["curve"]), values["encoder"].read_bytes()
    assert len(list(values["work"].glob("state_*.pt"))) == 2
    with values["state"].open("r+b") as file:  # in place: its second name in `work` is the same bytes
        file.seek(1000)
        file.write(b"damage")
    after = arguments(tmp_path, schedules[1], settings, epoch=2)
    with pytest.raises(UserError, match=r"1/state\.pt: its .*Remove it .*that pseudo-epoch then goes on from its last whole state"):
        pretrain(**after)
    values["state"].unlink()
    capsys.readouterr()
    pretrain(**values)
    damaged, before = [line for line in capsys.readouterr().err.splitlines() if line.startswith("microtome: ")]
    assert "state_000000005.pt: its" in damaged
    assert before.endswith("state_000000004.pt.")
    assert rows(values["curve"]) == curve
    assert values["encoder"].read_bytes() == encoder
    pretrain(**after)
    assert not values["work"].exists()


def test_bad_previous_states_are_named_with_a_remedy(schedules: list[Path], tmp_path: Path) -> None:
    settings = small_settings("mae")
    values = arguments(tmp_path, schedules[1], settings, epoch=2)
    with pytest.raises(UserError, match=r"1/state\.pt: no such state\. Pseudo-epoch 2 goes on from that of pseudo-epoch 1"):
        pretrain(**values)
    pretrain(**arguments(tmp_path, schedules[0], settings))
    good = values["previous"].read_bytes()
    values["previous"].write_bytes(good[: len(good) // 2])
    with pytest.raises(UserError, match=r"1/state\.pt: its \d+ bytes .*truncated or damaged. Remove it \(rm .*1/state\.pt\)"):
        pretrain(**values)
    values["previous"].write_bytes(good)
    with pytest.raises(UserError, match=r"the pseudo-epoch: found 1, expected 2"):
        pretrain(**{**values, "pseudo_epoch": 3})
    with pytest.raises(UserError, match=r"seed, run and recipe: found .*expected .*mask_ratio"):
        pretrain(**{**values, "settings": small_settings("mae", mask_ratio=0.6)})
    state = load_state(values["previous"])
    save_state(values["previous"], {**state, "steps_per_epoch": 3})
    with pytest.raises(UserError, match=r"the steps of a pseudo-epoch: found 3, expected 5"):
        pretrain(**values)


def test_a_state_of_another_recipe_in_the_work_folder_is_not_used(
    schedules: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = arguments(tmp_path, schedules[0], small_settings("mae"))
    pretrain(**values)
    undisturbed = rows(values["curve"])
    stale = {**load_state(values["state"]), "settings": "another"}
    (end,) = values["work"].iterdir()
    save_state(end, stale)
    pretrain(**values)
    assert "is of another recipe, schedule or previous pseudo-epoch: not used" in capsys.readouterr().err
    assert rows(values["curve"]) == undisturbed


def job(work: Path, number: int = 2, settings: str = "ours", inputs: str = "these") -> Job:
    return Job(number, Path("s.arrow"), 8, Length(5, 4), work, settings, inputs)


def state(step: int, **other: Any) -> dict[str, Any]:
    return {"settings": "ours", "inputs": "these", "pseudo_epoch": 1, "steps_per_epoch": 5, "step": step, **other}


def test_the_newest_whole_state_of_this_very_job_is_taken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert unfinished(job(tmp_path / "nowhere")) is None
    assert unfinished(job(tmp_path)) is None
    for step, other in {9: {}, 10: {}, 11: {"inputs": "others"}, 12: {"settings": "theirs"}, 13: {}}.items():
        save_state(tmp_path / f"state_{step:09d}.pt", state(step, **other))
    newest = tmp_path / "state_000000013.pt"
    newest.write_bytes(newest.read_bytes()[:-1])
    found = unfinished(job(tmp_path))
    assert found is not None
    assert (found[0]["step"], found[1]) == (10, tmp_path / "state_000000010.pt")
    damaged, theirs, others, taken = capfd.readouterr().err.splitlines()
    assert "state_000000013.pt: its" in damaged
    assert damaged.endswith("damaged, not used.")
    assert taken == f"microtome: going on from {tmp_path / 'state_000000010.pt'}."
    for said, name in ((theirs, "state_000000012.pt"), (others, "state_000000011.pt")):
        assert said == f"microtome: {tmp_path / name} is of another recipe, schedule or previous pseudo-epoch: not used."
    assert unfinished(job(tmp_path, settings="nobody's")) is None


def test_the_end_of_the_pseudo_epoch_before_may_have_had_other_inputs(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", state(5, inputs="its own"))
    assert end_of(tmp_path / "state.pt", job(tmp_path)) == state(5, inputs="its own")
    assert end_of(tmp_path / "state.pt", job(tmp_path), mapped_state) == state(5, inputs="its own")
    with pytest.raises(UserError, match=r"the pseudo-epoch: found 1, expected 0\. Remove it \(rm .*state\.pt\) and run the same command"):
        end_of(tmp_path / "state.pt", job(tmp_path, number=1))


def _begin(rank: int, port: int, node: Path, work: Path, inputs: str) -> None:
    """As a process on a node that sees its files below `node`."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    os.chdir(node)
    try:
        with processes() as team:
            found, _ = beginning(job(work, inputs=inputs), None, team.rank)
            said = f"step {found['step']}" if found else "anew"
    except UserError as error:
        said = str(error)
    (node / "said").write_text(said)


@pytest.mark.parametrize(
    ("sees", "expected"),
    [
        ("an old folder", "step 4"),
        ("none of the files", "Rank 1 on .*: Rank 0 goes on from work/state_000000004.pt, which cannot be read here: .*No such file"),
        ("damage", "Rank 1 on .*: Rank 0 goes on from work/state_000000004.pt, .*do not have the checksum"),
        ("another state", "Rank 1 on .*: Rank 0 goes on from work/state_000000004.pt, .* it is another one"),
        ("another schedule", "Rank 1 on .*: s.arrow, or the end of the pseudo-epoch before, has not the bytes here that rank 0 reads"),
    ],
)
def test_processes_never_begin_at_different_states(sees: str, expected: str, tmp_path: Path) -> None:
    nodes = [tmp_path / "0", tmp_path / "1"]
    for node in nodes:
        for step in (2, 4):
            path = node / f"work/state_{step:09d}.pt"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_state(path, state(step))
    works, newest = [Path("work"), Path("work")], nodes[1] / "work/state_000000004.pt"
    if sees == "an old folder":  # a listing without the newest state, which can be opened for all that
        newest.unlink()
        works = [nodes[0] / "work", nodes[1] / "work"]
    elif sees == "none of the files":
        newest.unlink()
    elif sees == "damage":
        newest.write_bytes(newest.read_bytes()[:-100])
    elif sees == "another state":
        save_state(newest, state(4, inputs="others"))
    inputs = ["these", "others" if sees == "another schedule" else "these"]
    port = free_port()
    ranks = [FORKS.Process(target=_begin, args=(rank, port, nodes[rank], works[rank], inputs[rank])) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    said = [(node / "said").read_text() for node in nodes]
    assert said[0] == said[1]
    assert re.match(expected, said[0])
