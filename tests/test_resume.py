"""Where a pseudo-epoch starts: at which of the states that are there, and which it names and passes over."""

from pathlib import Path

import pytest

from microtome.checkpoint import load_state, save_state
from microtome.errors import UserError
from microtome.pretrain import pretrain
from tests.training import arguments, drawn_schedules, finish, rows, small_settings, start, wait_for


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
