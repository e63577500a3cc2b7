"""The rule: pseudo-epochs that go on from one another, kills and damage, several processes, and every bad input."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from microtome.checkpoint import load_state, save_state
from microtome.errors import STOPPED, UserError
from microtome.pretrain import pretrain
from microtome.settings import PretrainSettings
from microtome.vision_models import timm
from tests.training import SILENT, drawn_tile, flags, make_schedules, small_settings, start

TILES, BATCH = 40, 8
STEPS = TILES // BATCH


@pytest.fixture(scope="module")
def schedules(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    rng = np.random.default_rng(0)
    return make_schedules(tmp_path_factory.mktemp("schedule"), [drawn_tile(rng, 40) for _ in range(TILES)], epochs=3)


def arguments(folder: Path, schedule: Path, settings: PretrainSettings, epoch: int = 1, **other: Any) -> dict[str, Any]:
    own = folder / str(epoch)
    files = {"encoder": own / "encoder.safetensors", "state": own / "state.pt", "curve": own / "curve.csv", "work": own / "work"}
    before = {"previous": folder / str(epoch - 1) / "state.pt"} if epoch > 1 else {}
    how = {"save_every_minutes": 10.0, "max_batch": 3, "max_replaced_tiles": 0, "workers": 0, "compiled": False, "monitor": SILENT}
    return {"schedule": schedule, "pseudo_epoch": epoch, "settings": settings, **files, **before, **how, **other}


def rows(path: Path) -> list[dict[str, str]]:
    """The curve without the one column that a clock writes."""
    with path.open() as file:
        return [{name: value for name, value in row.items() if name != "images_per_s"} for row in csv.DictReader(file)]


def finish(values: dict[str, Any], world: int = 1) -> str:
    """Run the rule in `world` processes of its own to a good end; returns what they said."""
    log = values["work"].parents[1] / "log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(values, log, rank, world, port) for rank in range(world)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * world, log.read_text()
    return log.read_text()


def wait_for(condition: Callable[[], bool], process: BaseProcess) -> None:
    """Until `condition` holds, or `process` has ended."""
    while process.is_alive() and not condition():
        time.sleep(0.002)


def steps_done(values: dict[str, Any]) -> int:
    """Rows of the growing curve."""
    growing = values["work"] / "curve.csv"
    return len(rows(growing)) if growing.is_file() else 0


@pytest.mark.parametrize("algorithm", ["dino", "mae"])
def test_pseudo_epochs_go_on_from_one_another(algorithm: str, schedules: list[Path], tmp_path: Path) -> None:
    settings = small_settings(algorithm)
    for epoch in (1, 2):
        pretrain(**arguments(tmp_path, schedules[epoch - 1], settings, epoch), events=tmp_path / "events")
        names = ["curve.csv", "encoder.safetensors", "state.pt", "work"]
        assert sorted(path.name for path in (tmp_path / str(epoch)).iterdir()) == names
        (end,) = (tmp_path / str(epoch) / "work").iterdir()  # takes no room, and goes when the next pseudo-epoch begins
        assert end.samefile(tmp_path / str(epoch) / "state.pt")
    assert not (tmp_path / "1/work").exists()
    assert list((tmp_path / "events").iterdir())
    first, second = rows(tmp_path / "1/curve.csv"), rows(tmp_path / "2/curve.csv")
    assert [int(row["step"]) for row in first + second] == list(range(1, 2 * STEPS + 1))
    assert [float(row["tiles_seen"]) for row in second] == [BATCH * step for step in range(STEPS + 1, 2 * STEPS + 1)]
    assert float(second[-1]["pseudo_epoch"]) == 2
    assert float(second[-1]["imagenet_epochs"]) == pytest.approx(2 * TILES / 1_281_167)
    assert all(np.isfinite(float(row["loss"])) and float(row["rankme"]) >= 1 for row in first + second)
    assert all((float(row["entropy"]) > 0) if algorithm == "dino" else row["entropy"] == "" for row in first)


def test_the_encoder_says_what_it_is_and_loads_into_timm(schedules: list[Path], tmp_path: Path) -> None:
    pretrain(**arguments(tmp_path, schedules[0], small_settings("dino")))
    path = tmp_path / "1/encoder.safetensors"
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    card = json.loads(header["__metadata__"]["card"])
    assert (card["model"], card["img_size"], card["pooling"], card["tiles_seen"]) == ("test_vit", 32, "cls", TILES)
    assert card["mean"] == [0.485, 0.456, 0.406]
    assert card["recipe"]["out_dim"] == 64
    loaded = timm.create_model(card["model"], checkpoint_path=str(path), img_size=card["img_size"], num_classes=0)
    teacher = {name: value for name, value in load_state(tmp_path / "1/state.pt")["algorithm"].items() if "teacher.backbone" in name}
    assert all(torch.equal(value, teacher[f"teacher.backbone.{name}"]) for name, value in loaded.state_dict().items())
    assert set(load_file(path)) == set(loaded.state_dict())


@pytest.mark.parametrize(("algorithm", "workers"), [("dino", 1), ("mae", 0)])
def test_killed_anywhere_it_goes_on_bit_for_bit(algorithm: str, workers: int, schedules: list[Path], tmp_path: Path) -> None:
    """Killed twice with a worker, accumulation (3 + 3 + 2 tiles) and drop-path on; then the same command."""
    settings = small_settings(algorithm)
    finish(arguments(tmp_path / "undisturbed", schedules[0], settings))
    values = arguments(tmp_path / "killed", schedules[0], settings, save_every_minutes=1e-9, workers=workers)
    for steps in (2, 4):
        process = start(values, tmp_path / "log")
        wait_for(lambda steps=steps: steps_done(values) >= steps, process)  # type: ignore[misc]
        process.kill()
        process.join()
    assert list(values["work"].glob("state_*.pt"))
    finish({**values, "workers": 0})
    assert rows(tmp_path / "killed/1/curve.csv") == rows(tmp_path / "undisturbed/1/curve.csv")
    ours, theirs = (load_file(tmp_path / which / "1/encoder.safetensors") for which in ("killed", "undisturbed"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.skipif("MICROTOME_SOAK" not in os.environ, reason="repeats what another test does once: make soak")
@pytest.mark.parametrize("seed", range(10))
def test_soak_of_kills_at_any_moment(seed: int, schedules: list[Path], tmp_path: Path) -> None:
    """Killed after random times, also while it starts, saves or finishes, until it ends by itself."""
    rng = np.random.default_rng(seed)
    settings = small_settings(["dino", "mae"][seed % 2], seed=seed)
    finish(arguments(tmp_path / "undisturbed", schedules[0], settings))
    values = arguments(tmp_path / "killed", schedules[0], settings, save_every_minutes=1e-9, workers=seed % 3)
    for _ in range(10):
        process = start(values, tmp_path / "log")
        process.join(rng.uniform(0.2, 3))
        process.kill()
        process.join()
    finish(values)
    assert rows(tmp_path / "killed/1/curve.csv") == rows(tmp_path / "undisturbed/1/curve.csv")
    ours, theirs = (load_file(tmp_path / which / "1/encoder.safetensors") for which in ("killed", "undisturbed"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_saves_first(number: signal.Signals, schedules: list[Path], tmp_path: Path) -> None:
    values = arguments(tmp_path, schedules[0], small_settings("mae", global_batch=1))
    process = start(values, tmp_path / "log")
    wait_for(lambda: steps_done(values) >= 2, process)
    os.kill(process.pid or 0, number)
    process.join(60)
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


@pytest.mark.parametrize("algorithm", ["dino", "mae"])
def test_one_two_and_four_processes_train_alike(algorithm: str, schedules: list[Path], tmp_path: Path) -> None:
    """The same losses for 1 x 8, 2 x 4 and 4 x 2 tiles, and for 2 x 4 in two micro-batches each; with drop-path and masks on."""
    settings = small_settings(algorithm, **({"drop_path_rate": 0.3} if algorithm == "dino" else {}))
    losses = []
    for world, max_batch in ((1, 8), (2, 4), (4, 2), (2, 2)):
        values = arguments(tmp_path / f"{world}x{max_batch}", schedules[0], settings, max_batch=max_batch)
        finish(values, world)
        losses.append([float(row["loss"]) for row in rows(values["curve"])][:5])
    for found in losses[1:]:
        assert found == pytest.approx(losses[0], rel=1e-5)


def test_the_command_line_is_the_rules(schedules: list[Path], tmp_path: Path) -> None:
    values = arguments(tmp_path, schedules[0], small_settings("mae", global_batch=64))
    command = [sys.executable, "-m", "microtome.pretrain", *flags(values)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"microtome: {schedules[0]}: {TILES} tiles are fewer than one global batch of 64" in done.stderr
    assert "Traceback" not in done.stderr


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


def test_a_finished_pseudo_epoch_whose_files_were_removed_is_not_trained_again(schedules: list[Path], tmp_path: Path) -> None:
    """As Snakemake removes them where it was killed and does not know that the job has finished."""
    values = arguments(tmp_path, schedules[0], small_settings("mae"))
    pretrain(**values)
    made = {name: values[name].read_bytes() for name in ("encoder", "curve")}
    for name in ("encoder", "curve", "state"):
        values[name].unlink()
    pretrain(**values)
    assert {name: values[name].read_bytes() for name in made} == made  # the curve's images/s included, which no second training repeats


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
