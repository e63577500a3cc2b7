"""What a model sees: a picture of the augmented views that DINO is given, or of what MAE reconstructs from a quarter of the patches.

A row is a tile, the first ones of a schedule. DINO: the tile, its global views, its local views. MAE: the crop, what is kept of it, and
that with the model's reconstruction of the rest.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from microtome import resume
from microtome.algorithm import Tiles
from microtome.atomic import atomic_path
from microtome.command_line import run
from microtome.dino import DinoAlgorithm
from microtome.loader import steps_in, tile_batches
from microtome.mae import MaeAlgorithm, mask_of, patchify, unpatchify
from microtome.pretrain import build_algorithm
from microtome.section import Rgb
from microtome.settings import PretrainSettings
from microtome.training_schedules import Length

GAP_PX = 4


def shown(images: torch.Tensor, mean: Rgb, std: Rgb) -> torch.Tensor:
    """Normalised images [n, 3, h, w] as grey levels in 0..1."""
    return (images * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)).clamp(0, 1)


def dino_columns(algorithm: DinoAlgorithm, tiles: Tiles) -> list[torch.Tensor]:
    """The views [n, 3, s, s] of the tiles, the global ones first."""
    n, recipe = len(tiles.positions), algorithm.recipe
    views = [view for crops in algorithm.prepare(tiles).crops for view in crops.reshape(-1, n, *crops.shape[1:])]
    return [shown(view, recipe.mean, recipe.std) for view in views]


@torch.no_grad()
def mae_columns(algorithm: MaeAlgorithm, tiles: Tiles) -> list[torch.Tensor]:
    """Crop, kept patches, and these with the rest reconstructed. The targets' own mean and contrast undo `norm_pix_loss`."""
    prepared = algorithm.prepare(tiles)
    patches = patchify(prepared.images, algorithm.patch)
    predicted = algorithm.network(prepared.images, prepared.order, algorithm.kept).float()
    if algorithm.recipe.norm_pix_loss:
        predicted = predicted * (patches.var(dim=-1, keepdim=True) + 1e-6) ** 0.5 + patches.mean(dim=-1, keepdim=True)
    removed = mask_of(prepared.order, algorithm.kept)[:, :, None]
    columns = [patches, patches * (1 - removed), patches * (1 - removed) + predicted * removed]
    return [shown(unpatchify(column, algorithm.patch), algorithm.recipe.mean, algorithm.recipe.std) for column in columns]


def table(columns: list[torch.Tensor], px: int) -> NDArray[np.uint8]:
    """Images of columns [n, 3, s, s] side by side, a row a tile, each `px` wide: uint8 [height, width, 3] on white."""
    resized = [F.interpolate(column, size=(px, px), mode="nearest") for column in columns]
    cells = [F.pad(column, [0, GAP_PX, 0, GAP_PX], value=1.0) for column in resized]
    rows = torch.cat([torch.cat(list(row), dim=2) for row in zip(*cells, strict=True)], dim=1)
    pixels: NDArray[np.uint8] = (255 * rows.permute(1, 2, 0)).round().byte().numpy()
    return pixels


def figure_gallery(schedule: Path, pseudo_epoch: int, state: Path, png: Path, tiles: int, settings: PretrainSettings) -> None:
    """Draw the gallery of the run whose `state` is that at the end of `pseudo_epoch`, for the first `tiles` tiles of its `schedule`."""
    length = Length(steps_in(schedule, settings.run.global_batch), settings.run.schedule_epochs)
    algorithm = build_algorithm(settings, length)
    job = resume.Job(pseudo_epoch + 1, schedule, settings.run.global_batch, length, state.parent, settings.json_text(), "")
    algorithm.load_state_dict(resume.end_of(state, job)["algorithm"])
    batch = next(tile_batches(schedule, tiles, 0, 1, 0, tiles, 0))
    some = Tiles(batch.images, batch.positions.numpy(), pseudo_epoch)
    whole = batch.images.permute(0, 3, 1, 2).float() / 255
    columns = [whole, *(dino_columns(algorithm, some) if isinstance(algorithm, DinoAlgorithm) else mae_columns(algorithm, some))]
    with atomic_path(png) as part:
        Image.fromarray(table(columns, algorithm.crop_px)).save(part, "PNG")


if __name__ == "__main__":
    run(figure_gallery)
