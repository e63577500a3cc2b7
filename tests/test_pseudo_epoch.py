"""A pseudo-epoch that is stopped by a signal, a loss that is not finite, a collapse or a tile that cannot be read."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from microtome.checkpoint import load_state
from microtome.errors import STOPPED, UserError
from microtome.pretrain import pretrain
from microtome.schedule_file import Schedule
from microtome.trainer import Trainer
from tests.training import SILENT, arguments, drawn_schedules, drawn_tile, make_schedules, rows, small_settings, start, steps_done, wait_for

BATCH = 8
UNLESS_NOHUP = pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="these tests run under nohup")


@pytest.fixture(scope="module")
def schedules(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return drawn_schedules(tmp_path_factory.mktemp("schedule"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, pytest.param(signal.SIGHUP, marks=UNLESS_NOHUP)])
def test_a_signal_to_the_whole_group_saves_first(number: signal.Signals, schedules: list[Path], tmp_path: Path) -> None:
    values = arguments(tmp_path, schedules[0], small_settings("mae", global_batch=1), workers=1)
    process = start(values, tmp_path / "log")
    wait_for(lambda: steps_done(values) >= 2, process)
    (worker,) = psutil.Process(process.pid).children()
    os.killpg(process.pid or 0, number)
    process.join(60)
    assert not worker.is_running()
    assert process.exitcode == STOPPED
    assert "Asked to stop at step" in (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()
    (state,) = values["work"].glob("state_*.pt")
    assert load_state(state)["step"] == steps_done(values) >= 2


def test_a_signal_to_one_of_two_processes_stops_both_after_the_same_step(schedules: list[Path], tmp_path: Path) -> None:
    values = arguments(tmp_path, schedules[0], small_settings("mae", global_batch=2))
    processes = [start(values, tmp_path / "log", rank, 2, 29531) for rank in range(2)]
    wait_for(lambda: steps_done(values) >= 2, processes[0])
    os.kill(processes[1].pid or 0, signal.SIGUSR2)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [STOPPED] * 2
    said = re.findall(r"Asked to stop at step (\d+)", (tmp_path / "log").read_text())
    assert said == [said[0]] * 2
    assert len(list(values["work"].glob("state_*.pt"))) == 1


def test_a_loss_that_is_not_finite_stops_at_once_and_keeps_the_last_good_state(schedules: list[Path], tmp_path: Path) -> None:
    settings = small_settings("mae", lr_per_256=1e30, warmup_epochs=0.5)
    values = arguments(tmp_path, schedules[0], settings, save_every_minutes=1e-9)
    with pytest.raises(UserError, match=r"step 3: the loss is (nan|inf).*not finite.*state_000000002\.pt"):
        pretrain(**values)
    kept = load_state(max(values["work"].glob("state_*.pt")))
    assert all(torch.isfinite(value).all() for value in kept["algorithm"].values())
    assert not values["state"].exists()


def test_a_collapse_stops_where_that_is_asked_for(schedules: list[Path], tmp_path: Path) -> None:
    settings = small_settings("dino")
    monitor = SILENT.model_copy(update={"action": "stop", "min_rankme": 1e6})
    with pytest.raises(UserError, match=r"collapsed at step 1: RankMe of the probe"):
        pretrain(**arguments(tmp_path, schedules[0], settings, monitor=monitor))


def test_a_loss_of_ln_k_is_a_collapse_after_the_warm_up_alone(schedules: list[Path], tmp_path: Path) -> None:
    monitor = SILENT.model_copy(update={"action": "stop", "max_loss_fraction": 0.01})  # which any loss is more than
    with pytest.raises(UserError, match=r"collapsed at step 3: the loss is more than 0\.04159"):  # half of five steps are the warm-up
        pretrain(**arguments(tmp_path, schedules[0], small_settings("dino"), monitor=monitor))


def test_every_row_has_its_speed_where_numbers_arrive_late(schedules: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the last two steps' numbers come when no step follows."""
    monkeypatch.setattr(Trainer, "lag", 1)
    values = arguments(tmp_path, schedules[0], small_settings("mae"))
    pretrain(**values)
    speeds = pd.read_csv(values["curve"])["images_per_s"]
    assert len(speeds) == 5
    assert (speeds > 0).all(), speeds.to_list()


def test_an_unreadable_tile_stops_the_run_or_is_replaced_as_the_setting_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    schedule = make_schedules(tmp_path / "schedule", [drawn_tile(rng, 40) for _ in range(2 * BATCH)], epochs=1)[0]
    with (tmp_path / "schedule" / "a.tar").open("r+b") as tar:
        tar.seek(512)  # the first file's JPEG
        tar.write(bytes(200))
    settings = small_settings("mae", global_batch=BATCH)
    with pytest.raises(UserError, match=r"a\.tar"):
        pretrain(**arguments(tmp_path / "stopped", schedule, settings))
    values = arguments(tmp_path / "replaced", schedule, settings, max_replaced_tiles=1)
    pretrain(**values)
    assert len(rows(values["curve"])) == 2


def test_replaced_tiles_are_counted_over_all_starts_of_a_pseudo_epoch(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    schedule = make_schedules(tmp_path / "schedule", [drawn_tile(rng, 40) for _ in range(4 * BATCH)], epochs=1)[0]
    bad = [Schedule(schedule)[position] for position in (1, 3 * BATCH)]  # in the first step, and in the last
    for tile in bad:
        with Path(tile.tar).open("r+b") as tar:
            tar.seek(tile.offset_b)
            tar.write(bytes(tile.size_b))
    settings = small_settings("mae", global_batch=BATCH)
    values = arguments(tmp_path / "few", schedule, settings, max_replaced_tiles=1, save_every_minutes=1e-9)
    for _ in range(2):  # another start does not begin to count anew
        with pytest.raises(UserError, match=r"2 tiles .*could not be read, at most 1 may be replaced"):
            pretrain(**values)
        assert list(values["work"].glob("state_*.pt")), "it goes on from a later step"
    pretrain(**arguments(tmp_path / "enough", schedule, settings, max_replaced_tiles=2))
    assert load_state(tmp_path / "enough/1/state.pt")["replaced"] == 2
