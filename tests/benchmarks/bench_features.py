"""[features_input], [features_small_slides], [features]: tiles/s beside the plain loop: Pillow, torchvision, a DataLoader a slide.
[features_gpu], where there is one: the same in bf16, ours from the tile store with all cores reading.

Tiles are drawn: 256 px JPEG of about 20 KB, in tars for ours, as loose files for the plain way. Both run in this process on all its
cores; [features_input] is counted in CPU seconds of one core.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from microtome.encoders import TileEncoder, load_encoder
from microtome.features import CPU_BATCH, encode
from microtome.settings import EncoderSettings
from microtome.slide_tiles import SlideTiles
from microtome.tile_batches import batches
from microtome.tile_tar import TileTar
from microtome.vision_models import backbone
from tests.benchmarks.rows import row, seconds
from tests.stage_settings import RES18, encoder_settings

TILE_PX = 256
BATCH = 64
GPU_BATCH = 256
REPEATS = 5


def main() -> list[dict[str, Any]]:
    """Three rows, and one more where there is a GPU."""
    rows = [input_row(1000), end_to_end_row("features_small_slides", 200, 20), end_to_end_row("features", 10, 400)]
    return [*rows, gpu_row(20, 8000)] if torch.cuda.is_available() else rows


def gpu_row(slides: int, tiles: int) -> dict[str, Any]:
    """From JPEG to features on a GPU with ViT-S/16 at 224 px in bf16, the plain way for one of the slides; a slide warms each up."""
    encoder, asked = vit_small(), settings().model_copy(update={"precision": "bf16", "dtype": "float16"})
    torch.set_num_threads(1)  # of each worker
    with tempfile.TemporaryDirectory() as folder:
        stored = write_slides(Path(folder), slides, tiles)
        list(encode(encoder, stored[:1], asked, GPU_BATCH, cores()))
        rate = slides * tiles / seconds(lambda: list(encode(encoder, stored, asked, GPU_BATCH, cores())))
        torch.set_num_threads(cores())
        plain_model, one = vit_small_of_timm().cuda(), Path(folder) / stored[0].slide
        with torch.autocast("cuda", torch.bfloat16):
            plain_features(plain_model, one)
            plain_rate = tiles / seconds(lambda: plain_features(plain_model, one))
    notes = {"slides": slides, "tiles_a_slide": tiles, "gpu": torch.cuda.get_device_name()}
    return row("features_gpu", round(rate), "tiles/s", round(plain_rate), round(rate / plain_rate, 2), cores(), **notes)


def input_row(tiles: int) -> dict[str, Any]:
    """Reading, decoding and preparing, per CPU second."""
    encoder = vit_small()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        slides = write_slides(Path(name), 10, tiles // 10)

        def ours() -> None:
            for _ in batches(slides, CPU_BATCH, 1, lambda images: encoder.prepare(torch.from_numpy(images)).numpy()):
                pass

        def plain() -> None:
            for slide in slides:
                for _ in DataLoader(LooseTiles(Path(name) / slide.slide), batch_size=BATCH):
                    pass

        ours(), plain()  # once to warm up
        times = [(cpu_seconds(ours), cpu_seconds(plain)) for _ in range(REPEATS)]
        ours_s, plain_s = (min(taken) for taken in zip(*times, strict=True))
    torch.set_num_threads(cores())
    return row("features_input", round(tiles / ours_s), "tiles/s", round(tiles / plain_s), round(plain_s / ours_s, 2), 1)


def end_to_end_row(name: str, slides: int, tiles: int) -> dict[str, Any]:
    """From JPEG to features with ViT-S/16 at 224 px in fp32. They take turns, a part of the slides each: the machine changes its pace."""
    encoder, plain_model, ours_s, plain_s = vit_small(), vit_small_of_timm(), 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        stored = write_slides(Path(folder), slides, tiles)
        for part in (stored[n::REPEATS] for n in range(REPEATS)):
            torch.set_num_threads(1)  # of each worker
            ours_s += seconds(lambda: list(encode(encoder, part, settings(), BATCH, cores())))  # noqa: B023  (called at once)
            torch.set_num_threads(cores())
            plain_s += seconds(lambda: [plain_features(plain_model, Path(folder) / slide.slide) for slide in part])  # noqa: B023
    total = slides * tiles
    rates = (round(total / ours_s, 1), "tiles/s", round(total / plain_s, 1), round(plain_s / ours_s, 2))
    return row(name, *rates, cores(), slides=slides, tiles_a_slide=tiles)


@torch.inference_mode()
def plain_features(model: nn.Module, folder: Path) -> Tensor:
    """One slide as the usual scripts do it."""
    device = next(model.parameters()).device
    loader = DataLoader(LooseTiles(folder), batch_size=BATCH, num_workers=cores(), pin_memory=device.type == "cuda")
    return torch.cat([model(images.to(device, non_blocking=True)).cpu() for images in loader])


class LooseTiles(Dataset[Tensor]):
    """JPEG files of a folder through torchvision's evaluation transform."""

    def __init__(self, folder: Path) -> None:
        from torchvision import transforms

        self.paths = sorted(folder.glob("*.jpg"))
        resize = transforms.Resize(248, transforms.InterpolationMode.BICUBIC)  # vit_small's card: 224 / 0.9
        normalize = transforms.Normalize((0.5,) * 3, (0.5,) * 3)
        self.transform = transforms.Compose([resize, transforms.CenterCrop(224), transforms.ToTensor(), normalize])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(Image.open(self.paths[index]).convert("RGB"))
        return image


def write_slides(folder: Path, slides: int, tiles: int, loose: bool = True) -> list[SlideTiles]:
    """The same tiles twice: in a tar a slide, and as `loose` files in a folder a slide."""
    drawn = list(draw_tiles(64))
    return [_write_slide(folder, f"slide{number:03d}", [drawn[(number + n) % 64] for n in range(tiles)], loose) for number in range(slides)]


def _write_slide(folder: Path, slide: str, jpegs: list[bytes], loose: bool) -> SlideTiles:
    (folder / slide).mkdir()
    with TileTar(folder / f"{slide}.tar") as tar:
        offsets = [tar.add(f"{n}.jpg", data) for n, data in enumerate(jpegs)]
    for n, data in enumerate(jpegs if loose else ()):
        (folder / slide / f"{n:05d}.jpg").write_bytes(data)
    sizes = np.array([len(data) for data in jpegs], np.int32)
    return SlideTiles(slide, folder / f"{slide}.tar", TILE_PX, np.zeros((len(jpegs), 2), np.int64), np.array(offsets), sizes)


def draw_tiles(number: int) -> Iterator[bytes]:
    """JPEG tiles with structure at several scales, about as large as tissue's."""
    random = np.random.default_rng(0)
    for _ in range(number):
        image = np.full((TILE_PX, TILE_PX, 3), (200.0, 150.0, 190.0), np.float32)
        for side, sd in ((8, 25.0), (32, 20.0), (128, 12.0)):
            image += cv2.resize(random.normal(0, sd, (side, side, 3)).astype(np.float32), (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
        yield simplejpeg.encode_jpeg(image.clip(0, 255).astype(np.uint8), quality=80, colorsubsampling="420")


def vit_small() -> TileEncoder:
    return load_encoder(settings(), None)


def vit_small_of_timm() -> nn.Module:
    return backbone("vit_small_patch16_224", pretrained=False).eval()


def settings() -> EncoderSettings:
    return encoder_settings("vit_small", encoder=RES18 | {"timm": "vit_small_patch16_224", "pooling": "cls", "input_px": None})


def cores() -> int:
    return len(os.sched_getaffinity(0))


def cpu_seconds(function: Any) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


if __name__ == "__main__":
    print(*main(), sep="\n")
