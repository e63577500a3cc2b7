"""What the tests of pretraining share: the published recipes, small ones, and schedules over tiles drawn here."""

import csv
import io
import multiprocessing
import os
import sys
import tarfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image

from microtome.algorithm import Tiles
from microtome.command_line import run
from microtome.launch import free_port
from microtome.ledger import WORKERS_IMPORT
from microtome.pretrain import pretrain
from microtome.recipes import Dino, Mae, Monitor, RunRecipe
from microtome.schedule_file import ROW, write_schedule
from microtome.section import Section
from microtome.settings import PretrainSettings
from microtome.training_schedules import Length

CONFIG: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "config" / "config.yaml").read_text())["pretrain"]
Recipe = TypeVar("Recipe", Dino, Mae)
LENGTH = Length(steps_per_epoch=4, schedule_epochs=4)
TILES = 40
SILENT = Monitor(action="warn", min_entropy_fraction=0.0, min_spread_fraction=0.0, max_loss_fraction=9.0, min_rankme=0.0)
SMALL = {
    "dino": {
        "global_crops_px": 32,
        "local_crops": 3,
        "local_crops_px": 16,
        "head_hidden": 32,
        "head_bottleneck": 16,
        "out_dim": 64,
        "warmup_epochs": 0.5,
        "freeze_last_layer_epochs": 0.5,
        "lr_per_256": 0.01,
    },
    "mae": {
        "crop_px": 32,
        "mask_ratio": 0.5,
        "decoder_dim": 32,
        "decoder_depth": 1,
        "decoder_heads": 2,
        "warmup_epochs": 0.5,
        "lr_per_256": 0.01,
    },
}


def published(name: str, kind: type[Recipe]) -> tuple[Recipe, RunRecipe]:
    """A published run of `config/config.yaml`."""
    run = {key: value for key, value in CONFIG["runs"][name].items() if key != "pseudo_epochs"}
    return kind.model_validate(CONFIG["recipes"][run["recipe"]]), RunRecipe.model_validate(run)


def small_settings(algorithm: str, global_batch: int = 8, seed: int = 0, **recipe: Any) -> PretrainSettings:
    """Settings of a run that trains in seconds: a very small ViT on crops of 32 px, everything else as published."""
    run = {"recipe": algorithm, "model": "test_vit", "init": "random", "schedule_epochs": 4, "precision": "fp32"}
    return PretrainSettings.model_validate(
        {
            "seed": seed,
            "run": {**run, "global_batch": global_batch},
            "recipe": {**CONFIG["recipes"][algorithm], **SMALL[algorithm], **recipe},
        }
    )


def photo(n: int, px: int, seed: int = 0) -> torch.Tensor:
    """Images with detail at several scales, and full blacks and whites."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((n, 3, 6, 6), dtype=np.float32))
    image = F.interpolate(coarse, size=(px, px), mode="bicubic") + 0.3 * torch.from_numpy(rng.random((n, 3, px, px), dtype=np.float32))
    return (image * 255).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def photo_tiles(n: int = 8, first: int = 0) -> Tiles:
    """Some of the first 8 tiles of 48 px of a pseudo-epoch, as an algorithm takes them."""
    return Tiles(photo(8, 48)[first : first + n], np.arange(8)[first : first + n], 1)


def drawn_tile(rng: np.random.Generator, px: int) -> np.ndarray:
    """A tile of pink ground with dark spots: uint8 [px, px, 3]."""
    tile = np.full((px, px, 3), (225, 170, 200), dtype=np.float64)
    rows, columns = np.mgrid[:px, :px]
    for row, column, radius in zip(*rng.random((2, 12)) * px, 2 + 4 * rng.random(12), strict=True):
        tile[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = (90, 40, 130)
    return (tile + rng.normal(0, 8, tile.shape)).clip(0, 255).astype(np.uint8)


def make_schedules(folder: Path, images: list[np.ndarray], epochs: int) -> list[Path]:
    """Schedules 1 ... `epochs` of all `images` in different orders: `folder`/1.arrow, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.zeros(len(images), ROW)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number, image in enumerate(images):
            jpeg = io.BytesIO()
            Image.fromarray(image).save(jpeg, "JPEG", quality=90)
            member = tarfile.TarInfo(f"a_x{number}_y0.jpg")
            member.size = jpeg.tell()
            rows[number] = (0, number, tar.offset // 512 + 1, member.size)
            tar.addfile(member, io.BytesIO(jpeg.getvalue()))
    paths = [folder / f"{epoch}.arrow" for epoch in range(1, epochs + 1)]
    for epoch, path in enumerate(paths):
        write_schedule(path, np.random.default_rng(epoch).permutation(rows), [str(folder / "a.tar")], images[0].shape[0])
    return paths


def drawn_schedules(folder: Path) -> list[Path]:
    """Three schedules of the same `TILES` tiles, of 40 px."""
    rng = np.random.default_rng(0)
    return make_schedules(folder, [drawn_tile(rng, 40) for _ in range(TILES)], epochs=3)


FORKS = multiprocessing.get_context("forkserver")  # imports once, then forks processes that can be killed
FORKS.set_forkserver_preload(["tests.training", *WORKERS_IMPORT])  # those of the stages, too: there is one such server a process


def start(values: dict[str, Any], log: Path, rank: int = 0, world: int = 1, port: int = 0) -> BaseProcess:
    """Start the rule `pretrain` in its own process, as one of `world`; what it says goes to `log`."""
    process = FORKS.Process(target=_pretrain, args=(values, log, rank, world, port))
    process.start()
    return process


def _pretrain(values: dict[str, Any], log: Path, rank: int, world: int, port: int) -> None:
    os.setpgrp()  # a signal to its group reaches its workers, and nobody else
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    multiprocessing.set_start_method("fork", force=True)  # of loader workers: that of a process which was not forked
    torch.set_num_threads(1)
    sys.argv = ["pretrain", *flags(values)]
    run(pretrain)


def flags(values: dict[str, Any]) -> list[str]:
    """The command line of the rule."""
    texts = {name: value.json_text() if isinstance(value, Section) else str(value) for name, value in values.items()}
    return [word for name, text in texts.items() for word in (f"--{name.replace('_', '-')}", text)]


def arguments(folder: Path, schedule: Path, settings: PretrainSettings, epoch: int = 1, **other: Any) -> dict[str, Any]:
    """The rule's parameters, where `folder` has a folder for each pseudo-epoch."""
    own = folder / str(epoch)
    files = {"encoder": own / "encoder.safetensors", "state": own / "state.pt", "curve": own / "curve.csv", "work": own / "work"}
    before = {"previous": folder / str(epoch - 1) / "state.pt"} if epoch > 1 else {}
    how = {"save_every_minutes": 10.0, "max_batch": 3, "max_replaced_tiles": 0, "workers": 0, "compiled": False, "monitor": SILENT}
    return {"schedule": schedule, "pseudo_epoch": epoch, "settings": settings, **files, **before, **how, **other}


def rows(path: Path) -> list[dict[str, str]]:
    """The curve without the one column that a clock writes."""
    with path.open() as file:
        return [{name: value for name, value in row.items() if name != "images_per_s"} for row in csv.DictReader(file)]


def finish(values: dict[str, Any], world: int = 1, within_s: float = 120) -> str:
    """Run the rule in `world` processes of its own to a good end; returns what they said."""
    log = values["work"].parents[1] / "log"
    log.parent.mkdir(parents=True, exist_ok=True)
    port = free_port()
    processes = [start(values, log, rank, world, port) for rank in range(world)]
    for process in processes:
        process.join(within_s)
    statuses = [process.exitcode for process in processes]
    assert statuses == [0] * world, f"{statuses}\n{log.read_text()}"
    return log.read_text()


def wait_for(condition: Callable[[], bool], process: BaseProcess) -> None:
    """Until `condition` holds, or `process` has ended."""
    while process.is_alive() and not condition():
        time.sleep(0.002)


def steps_done(values: dict[str, Any]) -> int:
    """Rows of the growing curve."""
    growing = values["work"] / "curve.csv"
    return len(rows(growing)) if growing.is_file() else 0
