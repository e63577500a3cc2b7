"""The rule: pseudo-epochs that go on from one another, kills, several processes, and what it leaves for others."""

import gc
import hashlib
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from microtome.checkpoint import load_state
from microtome.errors import StoppedError, UserError
from microtome.export_timm import export_timm
from microtome.launch import free_port
from microtome.pretrain import build_algorithm, pretrain
from microtome.software import changed, commit
from microtome.vision_models import backbone, timm
from tests.training import (
    FORKS,
    LENGTH,
    SILENT,
    TILES,
    arguments,
    drawn_schedules,
    finish,
    flags,
    rows,
    small_settings,
    start,
    steps_done,
    wait_for,
)

BATCH = 8
STEPS = TILES // BATCH


@pytest.fixture(scope="module")
def schedules(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return drawn_schedules(tmp_path_factory.mktemp("schedule"))


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
    assert card["std"] == [0.229, 0.224, 0.225]
    assert (card["seed"], card["commit"], card["code_changed"]) == (0, commit(), changed())
    assert card["schedule_sha256"] == hashlib.sha256(schedules[0].read_bytes()).hexdigest()
    loaded = timm.create_model(card["model"], checkpoint_path=str(path), img_size=card["img_size"], num_classes=0)
    teacher = {name: value for name, value in load_state(tmp_path / "1/state.pt")["algorithm"].items() if "teacher.backbone" in name}
    assert all(torch.equal(value, teacher[f"teacher.backbone.{name}"]) for name, value in loaded.state_dict().items())
    assert set(load_file(path)) == set(loaded.state_dict())


@pytest.mark.parametrize(("algorithm", "workers", "world", "epoch"), [("dino", 1, 1, 1), ("mae", 0, 2, 2)])
def test_killed_anywhere_it_goes_on_bit_for_bit(
    algorithm: str, workers: int, world: int, epoch: int, schedules: list[Path], tmp_path: Path
) -> None:
    """Killed twice with a worker, accumulation (3 + 3 + 2 tiles, or 3 + 1) and drop-path on; then the same command. The second of two
    pseudo-epochs goes on from the first.
    """
    settings = small_settings(algorithm)
    for number in range(1, epoch + 1):
        finish(arguments(tmp_path / "undisturbed", schedules[number - 1], settings, number), world)
    before = {"previous": tmp_path / f"undisturbed/{epoch - 1}/state.pt"} if epoch > 1 else {}
    how = {"save_every_minutes": 1e-9, "workers": workers, **before}
    values = arguments(tmp_path / "killed", schedules[epoch - 1], settings, epoch, **how)
    for steps in (2, 4):
        port = free_port()
        processes = [start(values, tmp_path / "log", rank, world, port) for rank in range(world)]
        wait_for(lambda steps=steps: steps_done(values) >= steps, processes[0])  # type: ignore[misc]
        for process in processes:
            process.kill()
            process.join()
    assert list(values["work"].glob("state_*.pt"))
    finish({**values, "workers": 0}, world)
    assert rows(values["curve"]) == rows(tmp_path / f"undisturbed/{epoch}/curve.csv")
    ours, theirs = (load_file(tmp_path / which / f"{epoch}/encoder.safetensors") for which in ("killed", "undisturbed"))
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


@pytest.mark.skipif("MICROTOME_SOAK" not in os.environ, reason="compiles for a minute: make soak")
@pytest.mark.parametrize("algorithm", ["dino", "mae"])
def test_soak_compiled_training_is_the_same(algorithm: str, schedules: list[Path], tmp_path: Path) -> None:
    """In micro-batches of two sizes, on two processes."""
    settings, found = small_settings(algorithm), []
    for compiled in (False, True):
        values = arguments(tmp_path / str(compiled), schedules[0], settings, compiled=compiled)
        finish(values, world=2, within_s=600)
        found.append([float(row["loss"]) for row in rows(values["curve"])])
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_rank_0_alone_shows_progress_and_warns(schedules: list[Path], tmp_path: Path) -> None:
    always = SILENT.model_copy(update={"min_rankme": 1e9})
    said = finish(arguments(tmp_path, schedules[0], small_settings("mae"), max_batch=4, monitor=always), world=2)
    steps = re.findall(r"Training seems to have collapsed at step (\d+)", said)
    assert len(steps) == len(set(steps)) > 1
    assert said.count("pseudo-epoch 1: 100%") == 1
    assert "pseudo-epoch 1:   0%" not in said.rpartition("100%")[2], "another bar"


def _holders(values: dict[str, Any], rank: int, port: int, end: Exception | None) -> None:
    """Train as one of two, until `end` is raised, and note how many still knew the group when it was left."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    leave = dist.destroy_process_group

    def leave_and_note() -> None:
        held = sum(type(found) is DistributedDataParallel for found in gc.get_objects())
        (values["work"].parent / f"held_{rank}").write_text(str(held))
        leave()

    with pytest.MonkeyPatch.context() as patch, suppress(StoppedError, KeyError):
        patch.setattr(dist, "destroy_process_group", leave_and_note)
        if end:
            patch.setattr("microtome.collapse.judge", Mock(side_effect=end))
        pretrain(**values)


@pytest.mark.parametrize("end", [None, StoppedError("asked"), KeyError("failed")])
def test_nothing_knows_the_group_when_it_is_left(end: Exception | None, schedules: list[Path], tmp_path: Path) -> None:
    """Who owns gloo's group last holds Python's lock until its threads end, which may wait for that lock: rarely, it hung."""
    values, port = arguments(tmp_path, schedules[0], small_settings("mae"), max_batch=4), free_port()
    values["work"].mkdir(parents=True)
    members = [FORKS.Process(target=_holders, args=(values, rank, port, end)) for rank in range(2)]
    for member in members:
        member.start()
    for member in members:
        member.join(60)
    assert [(tmp_path / f"1/held_{rank}").read_text() for rank in range(2)] == ["0", "0"]


def test_the_command_line_is_the_rules(schedules: list[Path], tmp_path: Path) -> None:
    values = arguments(tmp_path, schedules[0], small_settings("mae", global_batch=64))
    command = [sys.executable, "-m", "microtome.pretrain", *flags(values)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"microtome: {schedules[0]}: {TILES} tiles are fewer than one global batch of 64" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_finished_pseudo_epoch_whose_files_were_removed_is_not_trained_again(schedules: list[Path], tmp_path: Path) -> None:
    """As Snakemake removes them where it was killed and does not know that the job has finished."""
    values = arguments(tmp_path, schedules[0], small_settings("mae"))
    pretrain(**values)
    made = {name: values[name].read_bytes() for name in ("encoder", "curve")}
    for name in ("encoder", "curve", "state"):
        values[name].unlink()
    pretrain(**values)
    assert {name: values[name].read_bytes() for name in made} == made  # the curve's images/s included, which no second training repeats


def test_the_same_where_the_state_before_is_damaged_by_now(schedules: list[Path], tmp_path: Path) -> None:
    settings = small_settings("mae")
    pretrain(**arguments(tmp_path, schedules[0], settings))
    values = arguments(tmp_path, schedules[1], settings, epoch=2)
    pretrain(**values)
    made = {name: values[name].read_bytes() for name in ("encoder", "curve")}
    for name in ("encoder", "curve", "state"):
        values[name].unlink()
    before = values["previous"].read_bytes()
    values["previous"].write_bytes(before[: len(before) // 2])
    pretrain(**values)
    assert {name: values[name].read_bytes() for name in made} == made
    values["previous"].write_bytes(before)
    pretrain(**{**values, "pseudo_epoch": 2})
    with pytest.raises(UserError, match="Pseudo-epoch 5 is beyond the 4 of the run's schedule_epochs"):
        pretrain(**{**values, "pseudo_epoch": 5})


def test_what_killed_saves_left_is_swept(schedules: list[Path], tmp_path: Path) -> None:
    values = arguments(tmp_path, schedules[0], small_settings("mae"))
    values["work"].mkdir(parents=True)
    for folder, name in ((values["work"], "state_000000001.pt"), (values["state"].parent, "state.pt")):
        (folder / f".{name}.99.part").write_bytes(b"half")
    pretrain(**values)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("algorithm", ["dino", "mae"])
def test_published_weights_are_where_training_starts(algorithm: str, tmp_path: Path) -> None:
    published = backbone("test_vit", pretrained=False, img_size=32, seed=9)
    card = {"model": "test_vit", "img_size": 32, "mean": [0.5] * 3, "std": [0.2] * 3}
    save_file(published.state_dict(), tmp_path / "encoder.safetensors", {"card": json.dumps(card)})
    export_timm(tmp_path / "encoder.safetensors", tmp_path / "timm")
    settings = small_settings(algorithm)
    run = settings.run.model_copy(update={"model": f"local-dir:{tmp_path / 'timm'}", "init": "pretrained"})
    trained = build_algorithm(settings.model_copy(update={"run": run}), LENGTH)
    weights = trained.encoder.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in published.state_dict().items())
    scratch = build_algorithm(settings, LENGTH).encoder.state_dict()
    assert not torch.equal(scratch["blocks.0.attn.qkv.weight"], weights["blocks.0.attn.qkv.weight"])
