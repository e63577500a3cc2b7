"""The gallery: views as they are fed, kept patches shown unchanged, and a perfect prediction shown as the tile."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from microtome.errors import UserError
from microtome.figure_gallery import GAP_PX, figure_gallery, mae_columns, shown, table
from microtome.mae import mask_of, patchify, unpatchify
from microtome.pretrain import build_algorithm, pretrain
from microtome.training_schedules import Length
from tests.test_mae import algorithm, tiles
from tests.training import SILENT, drawn_tile, make_schedules, small_settings


@pytest.mark.parametrize(("kind", "columns"), [("dino", 6), ("mae", 4)])
def test_a_gallery_is_drawn_from_a_state(kind: str, columns: int, tmp_path: Path) -> None:
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
    figure_gallery(schedule, 1, files["state"], tmp_path / "gallery.png", 3, settings)
    assert Image.open(tmp_path / "gallery.png").size == (columns * (32 + GAP_PX), 3 * (32 + GAP_PX))
    with pytest.raises(UserError, match="seed, run and recipe"):
        figure_gallery(schedule, 1, files["state"], tmp_path / "gallery.png", 3, settings.model_copy(update={"seed": 1}))


def test_kept_patches_are_the_tiles_and_a_perfect_prediction_is_the_tile() -> None:
    mae, some = algorithm(), tiles()
    prepared = mae.prepare(some)
    patches = patchify(prepared.images, 16)
    perfect = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6) ** 0.5
    mae.network.forward = lambda *_: perfect  # type: ignore[method-assign]
    crop, kept, reconstructed = mae_columns(mae, some)
    assert torch.allclose(reconstructed, crop, atol=1e-4)
    black = shown(torch.zeros(1, 3, 1, 1), mae.recipe.mean, mae.recipe.std)
    removed = unpatchify(mask_of(prepared.order, mae.kept)[:, :, None].expand(-1, -1, 768), 16).bool()
    assert torch.equal(kept[~removed], crop[~removed])
    assert torch.equal(kept[removed], black.expand_as(kept)[removed])


def test_a_table_has_a_row_a_tile_and_a_column_a_view() -> None:
    drawn = table([torch.zeros(2, 3, 4, 4), torch.full((2, 3, 8, 8), 0.5)], px=8)
    assert drawn.shape == (2 * (8 + GAP_PX), 2 * (8 + GAP_PX), 3)
    assert (drawn[:8, :8] == 0).all()
    assert (drawn[:8, 8 + GAP_PX : 16 + GAP_PX] == 128).all()
    assert (drawn[8 : 8 + GAP_PX] == 255).all()


def test_views_shown_are_those_of_training() -> None:
    settings = small_settings("dino")
    dino = build_algorithm(settings, Length(1, 4))
    crops = dino.prepare(tiles()).crops
    assert shown(crops[0], settings.recipe.mean, settings.recipe.std).min() >= 0
    assert torch.equal(crops[0], dino.prepare(tiles()).crops[0])
