"""What a run's network sees: the augmented views that DINO is given, or what MAE reconstructs from the patches it keeps.

A row is a tile as training takes it, with the same crops, colours and masks; the tiles are evenly spread over the schedule. Every pixel of
a picture is drawn as `factor` x `factor` pixels of the page, so that sizes compare. Images are float [n, 3, s, s] in 0..1.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from microtome import resume
from microtome.algorithm import Tiles
from microtome.atomic import write_text
from microtome.checkpoint import mapped_state
from microtome.command_line import run
from microtome.dino import DinoAlgorithm
from microtome.figure_style import DPI, ONE_COLUMN_MM, save, style
from microtome.loader import steps_in, tile_batches
from microtome.mae import MaeAlgorithm, mask_of, patchify, unpatchify
from microtome.pretrain import build_algorithm
from microtome.schedule_file import Schedule
from microtome.section import Rgb
from microtome.settings import PretrainSettings
from microtome.tile_sheet import GAP_PX, LINE_PX, page, put, text_px, write
from microtome.training_schedules import Length

HEADER_PX = 2 * LINE_PX + GAP_PX
MOST = 9  # pixels of the page for one of a picture, along a side


@dataclass(frozen=True)
class Column:
    """Pictures of one kind, `images` [views][n, 3, s, s], in `stacked` rows for each tile."""

    label: str
    images: list[torch.Tensor]
    stacked: int = 1

    @property
    def side_px(self) -> int:
        """Of a picture, in its own pixels."""
        return int(self.images[0].shape[-1])

    @property
    def header(self) -> list[str]:
        """What stands above."""
        return [self.label, f"{self.side_px} px"]

    @property
    def beside(self) -> int:
        """Pictures in a row."""
        return -(-len(self.images) // self.stacked)

    def width_px(self, factor: int) -> int:
        """Of the column: of its pictures, or of its header where that is wider."""
        return max(self.beside * (factor * self.side_px + GAP_PX) - GAP_PX, text_px(self.header))


def shown(images: torch.Tensor, mean: Rgb, std: Rgb) -> torch.Tensor:
    """Normalised images [n, 3, h, w] as grey levels in 0..1."""
    return (images * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)).clamp(0, 1)


def dino_columns(algorithm: DinoAlgorithm, tiles: Tiles) -> list[Column]:
    """The global views, and beside them the local ones, in as many rows as are as high as a global one."""
    n, recipe = len(tiles.positions), algorithm.recipe
    wide, *local = [
        [shown(view, recipe.mean, recipe.std) for view in crops.reshape(-1, n, *crops.shape[1:])]
        for crops in algorithm.prepare(tiles).crops
    ]
    columns = [Column(f"global {number}", [view]) for number, view in enumerate(wide, 1)]
    stacked = max(1, recipe.global_crops_px // recipe.local_crops_px)
    return columns + [Column(f"local 1–{len(views)}" if len(views) > 1 else "local", views, stacked) for views in local]


@torch.no_grad()
def mae_columns(algorithm: MaeAlgorithm, tiles: Tiles) -> list[Column]:
    """Crop, kept patches, and these with the rest reconstructed. The targets' own mean and contrast undo `norm_pix_loss`."""
    prepared = algorithm.prepare(tiles)
    patches = patchify(prepared.images, algorithm.patch)
    predicted = algorithm.network(prepared.images, prepared.order, algorithm.kept).float()
    if algorithm.recipe.norm_pix_loss:
        predicted = predicted * (patches.var(dim=-1, keepdim=True) + 1e-6) ** 0.5 + patches.mean(dim=-1, keepdim=True)
    removed = mask_of(prepared.order, algorithm.kept)[:, :, None]
    kinds = {"crop": patches, "kept": patches * (1 - removed), "reconstructed": patches * (1 - removed) + predicted * removed}
    mean, std = algorithm.recipe.mean, algorithm.recipe.std
    return [Column(label, [shown(unpatchify(kind, algorithm.patch), mean, std)]) for label, kind in kinds.items()]


def _width_px(columns: list[Column], factor: int) -> int:
    return sum(column.width_px(factor) + 2 * GAP_PX for column in columns)


def draw(columns: list[Column]) -> Figure:
    """The page: a row a tile, a column a kind of picture, about as wide as a journal's column or, where pixels ask for it, wider."""
    limit_px = ONE_COLUMN_MM / 25.4 * DPI
    factor = max((factor for factor in range(1, MOST) if _width_px(columns, factor) <= limit_px), default=1)
    tiles, row_px = len(columns[0].images[0]), factor * max(column.side_px for column in columns) + GAP_PX
    with style():
        figure = page(_width_px(columns, factor), HEADER_PX + tiles * row_px)
        left_px = GAP_PX
        for column in columns:
            for line, text in enumerate(column.header, 1):
                write(figure, text, left_px, line * LINE_PX, color=["black", "0.4"][line - 1])
            for number, view in enumerate(column.images):
                below, beside = divmod(number, column.beside)
                step_px = factor * column.side_px + GAP_PX
                for row, image in enumerate(view):
                    top_px = HEADER_PX + row * row_px + below * step_px
                    put(figure, image.permute(1, 2, 0).numpy(), left_px + beside * step_px, top_px, factor)
            left_px += column.width_px(factor) + 2 * GAP_PX
    return figure


def gallery(algorithm: DinoAlgorithm | MaeAlgorithm, tiles: Tiles) -> Figure:
    """The page of `tiles`, and beside them what the network of `algorithm` sees or makes of them."""
    seen = dino_columns(algorithm, tiles) if isinstance(algorithm, DinoAlgorithm) else mae_columns(algorithm, tiles)
    return draw([Column("tile", [tiles.images.permute(0, 3, 1, 2) / 255]), *seen])


def read_tiles(schedule: Path, count: int, pseudo_epoch: int, max_replaced: int) -> Tiles:
    """`count` tiles, evenly spread over the schedule; one that cannot be read is replaced as in training, where that is allowed."""
    positions = np.linspace(0, len(Schedule(schedule)), count, endpoint=False).astype(np.int64)
    single = [next(tile_batches(schedule, 1, 0, 1, position, 1, 0, max_replaced)).images for position in positions.tolist()]
    return Tiles(torch.cat(single), positions, pseudo_epoch)


def figure_gallery(
    schedule: Path,
    pseudo_epoch: int,
    state: Path,
    pdf: Path,
    png: Path,
    csv: Path,
    tiles: int,
    max_replaced_tiles: int,
    settings: PretrainSettings,
) -> None:
    """Draw `tiles` tiles of a `schedule` for the run whose `state` is that at the end of `pseudo_epoch`, and name them in `csv`."""
    length = Length(steps_in(schedule, settings.run.global_batch), settings.run.schedule_epochs)
    algorithm = build_algorithm(settings, length)
    job = resume.Job(pseudo_epoch + 1, schedule, settings.run.global_batch, length, state.parent, settings.json_text(), "")
    algorithm.load_state_dict(resume.end_of(state, job, mapped_state)["algorithm"])
    some = read_tiles(schedule, tiles, pseudo_epoch, max_replaced_tiles)
    save(gallery(algorithm, some), pdf, png)
    rows = [(position, Schedule(schedule)[position]) for position in some.positions.tolist()]
    named = [{"position": position, "slide": Path(tile.tar).stem, "tile": tile.tile} for position, tile in rows]
    write_text(csv, pd.DataFrame(named).to_csv(index=False))


if __name__ == "__main__":
    run(figure_gallery)
