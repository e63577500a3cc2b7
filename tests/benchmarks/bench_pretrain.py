"""[dino_input], [mae_input]: tiles that one loader core feeds, beside the plain recipe, whose workers decode and transform with Pillow;
[dino_augment_cpu], [mae_augment_cpu]: the batched augmentation, beside the plain transforms; [dino_step], [mae_step]: a training step,
beside the bare arithmetic in it (forward and backward of the student, forward of the teacher, without loss, optimizer and average).

`matrix_share` is the floating-point operations of the bare arithmetic at the rate measured, over those of a plain matrix product of the
same dtype, measured too (`matrix_tflops`). Times are of one core's CPU. Tiles are drawn: 256 px, JPEG of quality 80, 4:2:0. Where there is
a GPU, it takes the steps, in bf16.
"""

import io
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from microtome.algorithm import Tiles
from microtome.dino import DinoAlgorithm
from microtome.distributed import Processes
from microtome.loader import steps_in, tile_batches
from microtome.mae import MaeAlgorithm
from microtome.pretrain import build_algorithm
from microtome.settings import PretrainSettings
from microtome.trainer import Trainer
from microtome.training_schedules import Length
from tests.benchmarks.bench_loader import drawn_jpeg, scheduled, write_tars
from tests.benchmarks.rows import row
from tests.training import CONFIG

from torchvision import transforms  # isort: skip  (after microtome.vision_models, which mends it)

TILES = 768
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STEP_TILES = 384 if DEVICE.type == "cuda" else 4
PRECISION = "bf16" if DEVICE.type == "cuda" else "fp32"
MATRIX = 8192 if DEVICE.type == "cuda" else 1024  # rows and columns of the product whose rate stands for the peak


def main() -> list[dict[str, Any]]:
    """Six rows."""
    torch.set_num_threads(1)
    Path("benchmarks").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="benchmarks") as name:
        jpegs = [drawn_jpeg(number, 256) for number in range(64)]
        schedule = scheduled(Path(name), write_tars(Path(name) / "tars", jpegs, 8, 5 * TILES // 8), block=1)  # a fifth is scheduled
        assert steps_in(schedule, 64) * 64 == TILES
        ours_s = cpu_s(lambda: [batch.images for batch in tile_batches(schedule, 64, 0, 1, 0, 64, 0)]) / TILES
        inputs = [input_row(algorithm, plain, ours_s, jpegs) for algorithm, plain in (("dino", plain_dino()), ("mae", plain_mae()))]
    images = torch.stack([torch.from_numpy(np.array(Image.open(io.BytesIO(jpeg)))) for jpeg in jpegs[:32]])
    augmentations = [augment_row(algorithm, plain, images) for algorithm, plain in (("dino", plain_dino()), ("mae", plain_mae()))]
    return [*inputs, *augmentations, step_row("dino", images), step_row("mae", images)]


def cpu_s(function: Callable[[], Any], repeats: int = 3) -> float:
    """CPU seconds of a call, the least of some."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


class Solarize:
    """Invert from 128 on."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """An image to an image."""
        return ImageOps.solarize(image)


class Blur:
    """Pillow's Gaussian blur of a random radius."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """An image to an image."""
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def plain_dino() -> Callable[[Image.Image], Any]:
    """The published recipe in torchvision's transforms over Pillow images: ten crops."""

    def crop(size: int, scale: tuple[float, float], *more: Any) -> Any:
        jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)
        cut = transforms.RandomResizedCrop(size, scale=scale, interpolation=transforms.InterpolationMode.BICUBIC)
        whole = [cut, transforms.RandomHorizontalFlip(), jitter, transforms.RandomGrayscale(0.2), *more]
        return transforms.Compose([*whole, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def sometimes(operation: Any, probability: float) -> Any:
        return transforms.RandomApply([operation], p=probability)

    first = crop(224, (0.4, 1.0), Blur())
    second = crop(224, (0.4, 1.0), sometimes(Blur(), 0.1), sometimes(Solarize(), 0.2))
    local = crop(96, (0.05, 0.4), sometimes(Blur(), 0.5))
    return lambda image: [first(image), second(image), *(local(image) for _ in range(8))]


def plain_mae() -> Callable[[Image.Image], Any]:
    """The published recipe of MAE in torchvision's transforms."""
    cut = transforms.RandomResizedCrop(224, scale=(0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC)
    return transforms.Compose([cut, transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def input_row(algorithm: str, plain: Callable[[Image.Image], Any], ours_s: float, jpegs: list[bytes]) -> dict[str, Any]:
    """What a loader core feeds. Ours, `ours_s` a tile, reads and decodes, whatever the algorithm: cropping and all that is the device's."""
    plain_s = cpu_s(lambda: [plain(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in jpegs]) / len(jpegs)
    return row(f"{algorithm}_input", round(1 / ours_s), "images/s of CPU time", round(1 / plain_s), round(plain_s / ours_s, 1), 1)


def augment_row(algorithm: str, plain: Callable[[Image.Image], Any], images: torch.Tensor) -> dict[str, Any]:
    """Augmenting decoded tiles, on a CPU core."""
    trained = build(algorithm)
    tiles = Tiles(images, np.arange(len(images)), 1)
    pictures = [Image.fromarray(image) for image in images.numpy()]
    ours_s = cpu_s(lambda: trained.prepare(tiles)) / len(images)
    plain_s = cpu_s(lambda: [plain(picture) for picture in pictures]) / len(images)
    name = f"{algorithm}_augment_cpu"
    return row(name, round(1 / ours_s, 1), "images/s of CPU time", round(1 / plain_s, 1), round(plain_s / ours_s, 2), 1)


def build(algorithm: str) -> DinoAlgorithm | MaeAlgorithm:
    """The published run."""
    run = dict(CONFIG["runs"][{"dino": "dino_vits16", "mae": "mae_vitl16"}[algorithm]])
    del run["pseudo_epochs"]
    settings = PretrainSettings.model_validate({"seed": 0, "run": run, "recipe": CONFIG["recipes"][algorithm]})
    return build_algorithm(settings, Length(steps_per_epoch=100, schedule_epochs=50))


def step_row(algorithm: str, images: torch.Tensor) -> dict[str, Any]:
    """A step of the published model on prepared tiles, and the arithmetic that it cannot avoid, in turns."""
    n = STEP_TILES
    trained = build(algorithm).to(DEVICE)
    trainer = Trainer(trained, Processes(0, 1, DEVICE), PRECISION, n, compiled=False)
    tiles = Tiles(images.repeat(-(-n // len(images)), 1, 1, 1)[:n].to(DEVICE), np.arange(n), 1)
    prepared = trained.prepare(tiles)
    trained.prepare = lambda _: prepared  # type: ignore[method-assign]
    ours, bare = [], []
    for _ in range(4 if DEVICE.type == "cpu" else 20):
        ours.append(device_s(lambda: train(trainer, tiles)))
        bare.append(device_s(lambda: arithmetic(trained, prepared)))
    ours_s, bare_s = min(ours[1:]), min(bare[1:])
    notes = {"tiles": n, "device": DEVICE.type, **matrix_notes(trained, prepared, n, n / ours_s)}
    return row(f"{algorithm}_step", round(ours_s, 3), "s", round(bare_s, 3), round(bare_s / ours_s, 3), 1, **notes)


def arithmetic(trained: Any, prepared: Any) -> None:
    """Forward and backward of the student over all crops, forward of the teacher; for MAE of encoder and decoder."""
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=PRECISION == "bf16"):
        if isinstance(trained, DinoAlgorithm):
            with torch.no_grad():
                trained.teacher(prepared.crops[:1], [None])
            outputs = trained.network(prepared.crops, [None] * len(prepared.crops))
        else:
            outputs = trained.network(prepared.images, prepared.order, trained.kept)
        outputs.backward(torch.ones_like(outputs))
    trained.network.zero_grad(set_to_none=True)


def matrix_notes(trained: Any, prepared: Any, n: int, tiles_per_s: float) -> dict[str, float]:
    """What a tile's arithmetic is, and its share, at a rate, of what the device does in matrix products alone."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # a CPU's fused attention is not counted
        arithmetic(trained, prepared)
    matrix = torch.randn(MATRIX, MATRIX, device=DEVICE, dtype=torch.bfloat16 if PRECISION == "bf16" else torch.float32)
    peak = 2 * MATRIX**3 / min(device_s(lambda: matrix @ matrix) for _ in range(10))
    flop = counter.get_total_flops() / n
    return {
        "gflop_a_tile": round(flop / 1e9, 1),
        "matrix_tflops": round(peak / 1e12, 3),
        "matrix_share": round(flop * tiles_per_s / peak, 3),
    }


def train(trainer: Trainer, tiles: Tiles) -> None:
    """A step."""
    trainer.accumulate(tiles, 100, True)
    trainer.update(100, False, None)


def device_s(
    function: Callable[[], Any], clock: Callable[[], float] = time.process_time if DEVICE.type == "cpu" else time.perf_counter
) -> float:
    """Seconds of a call: of the GPU's work, or of CPU time."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    function()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    for line in main():
        print(line)
