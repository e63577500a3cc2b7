"""The gallery: views as they are fed, kept patches shown unchanged, and a perfect prediction shown as the tile."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.transforms import Bbox
from PIL import Image

from microtome.errors import UserError
from microtome.figure_gallery import HEADER_PX, Column, draw, figure_gallery, mae_columns, read_tiles, shown
from microtome.figure_style import DPI, ONE_COLUMN_MM
from microtome.mae import mask_of, patchify, unpatchify
from microtome.pretrain import build_algorithm, pretrain
from microtome.schedule_file import Schedule
from microtome.tile_sheet import GAP_PX
from microtome.training_schedules import Length
from tests.figure_checks import assert_readable, assert_saved
from tests.test_mae import algorithm
from tests.training import SILENT, drawn_tile, make_schedules, photo_tiles, small_settings


@pytest.mark.parametrize(("kind", "pictures"), [("dino", 1 + 2 + 3), ("mae", 1 + 3)])
def test_a_gallery_is_drawn_from_a_state(kind: str, pictures: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    (schedule,) = make_schedules(tmp_path / "schedule", [drawn_tile(rng, 40) for _ in range(8)], epochs=1)
    settings = small_settings(kind)
    files = {name: tmp_path / name for name in ("encoder", "state", "curve", "work")}
    pretrain(
        schedule,
        1,
        **files,
        save_every_minutes=9,
        max_batch=8,
        max_replaced_tiles=0,
        workers=0,
        compiled=False,
        monitor=SILENT,
        settings=settings,
    )
    outputs = [tmp_path / f"gallery.{kind}" for kind in ("pdf", "png", "csv")]
    figure_gallery(schedule, 1, files["state"], *outputs, 3, 0, settings)
    assert_saved(outputs[0], outputs[1])
    shown_tiles = pd.read_csv(outputs[2])
    assert shown_tiles["position"].tolist() == [0, 2, 5]
    assert shown_tiles["tile"].tolist() == [Schedule(schedule)[position].tile for position in (0, 2, 5)]
    pixels = np.asarray(Image.open(outputs[1]).convert("RGB"))
    assert pixels.shape[1] <= ONE_COLUMN_MM / 25.4 * DPI
    tile = read_tiles(schedule, 3, 1, 0).images[0].numpy()
    enlarged = (tile.repeat(factor, 0).repeat(factor, 1) for factor in range(1, 9))
    assert any(np.array_equal(pixels[HEADER_PX : HEADER_PX + len(large), GAP_PX : GAP_PX + len(large)], large) for large in enlarged)
    with pytest.raises(UserError, match="seed, run and recipe"):
        figure_gallery(schedule, 1, files["state"], *outputs, 3, 0, settings.model_copy(update={"seed": 1}))
    _cut_off(files["state"])
    with pytest.raises(UserError, match="truncated or damaged"):
        figure_gallery(schedule, 1, files["state"], *outputs, 3, 0, settings)


def _cut_off(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1000)


def test_an_unreadable_tile_is_replaced_as_in_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (schedule,) = make_schedules(tmp_path / "schedule", [drawn_tile(rng, 40) for _ in range(8)], epochs=1)
    first = Schedule(schedule)[0]
    with Path(first.tar).open("r+b") as file:
        file.seek(first.offset_b)
        file.write(bytes(first.size_b))
    with pytest.raises(UserError, match="expected a JPEG"):
        read_tiles(schedule, 2, 1, 0)
    replaced = read_tiles(schedule, 2, 1, 1)
    assert torch.equal(replaced.images[0], replaced.images[1])  # the stand-in of position 0 is that half a schedule on


def test_headers_do_not_overlap_and_views_share_a_scale() -> None:
    columns = [Column("tile", [torch.zeros(2, 3, 128, 128)]), Column("reconstructed", [torch.zeros(2, 3, 32, 32)])]
    columns += [Column("local 1–5", [torch.zeros(2, 3, 16, 16)] * 5, stacked=2), Column("local", [torch.zeros(2, 3, 16, 16)])]
    figure = draw(columns)
    assert_readable(figure)
    widths = sorted({round(axes.get_window_extent().width) for axes in figure.axes})
    assert np.array(widths) / widths[0] == pytest.approx([1, 2, 8])
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert all(Bbox.intersection(one, other) is None for one, other in combinations(boxes, 2))


def test_kept_patches_are_the_tiles_and_a_perfect_prediction_is_the_tile() -> None:
    mae, some = algorithm(), photo_tiles()
    prepared = mae.prepare(some)
    patches = patchify(prepared.images, 16)
    perfect = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6) ** 0.5
    mae.network.forward = lambda *_: perfect  # type: ignore[method-assign]
    crop, kept, reconstructed = (column.images[0] for column in mae_columns(mae, some))
    assert torch.allclose(reconstructed, crop, atol=1e-4)
    black = shown(torch.zeros(1, 3, 1, 1), mae.recipe.mean, mae.recipe.std)
    removed = unpatchify(mask_of(prepared.order, mae.kept)[:, :, None].expand(-1, -1, 768), 16).bool()
    assert torch.equal(kept[~removed], crop[~removed])
    assert torch.equal(kept[removed], black.expand_as(kept)[removed])


def test_views_shown_are_those_of_training() -> None:
    settings = small_settings("dino")
    dino = build_algorithm(settings, Length(1, 4))
    crops = dino.prepare(photo_tiles()).crops
    assert shown(crops[0], settings.recipe.mean, settings.recipe.std).min() >= 0
    assert torch.equal(crops[0], dino.prepare(photo_tiles()).crops[0])
