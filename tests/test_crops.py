"""Random resized crops against torchvision and Pillow."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from microtome.crops import ATTEMPTS, LOG_RATIO, UNIFORMS, _by_matrices, random_boxes, resize_matrix, resized_crops
from tests.training import photo


def torchvision_box(uniforms: np.ndarray, tile_px: int, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """RandomResizedCrop.get_params of torchvision, with its random numbers given."""
    for attempt in range(ATTEMPTS):
        target_area = tile_px * tile_px * (scale[0] + float(uniforms[attempt]) * (scale[1] - scale[0]))
        ratio = math.exp(LOG_RATIO[0] + float(uniforms[ATTEMPTS + attempt]) * (LOG_RATIO[1] - LOG_RATIO[0]))
        width, height = round(math.sqrt(target_area * ratio)), round(math.sqrt(target_area / ratio))
        if 0 < width <= tile_px and 0 < height <= tile_px:
            top, left = int(float(uniforms[-2]) * (tile_px - height + 1)), int(float(uniforms[-1]) * (tile_px - width + 1))
            return top, left, height, width
    return 0, 0, tile_px, tile_px


@given(st.integers(0, 2**32 - 1), st.integers(8, 512), st.sampled_from([(0.4, 1.0), (0.05, 0.4), (0.2, 1.0), (1.0, 1.0)]))
@settings(max_examples=80, deadline=None)
def test_boxes_are_torchvisions(seed: int, tile_px: int, scale: tuple[float, float]) -> None:
    uniforms = np.random.default_rng(seed).random((20, UNIFORMS), dtype=np.float32)
    boxes = random_boxes(uniforms, tile_px, scale)
    assert [tuple(box) for box in boxes.tolist()] == [torchvision_box(row, tile_px, scale) for row in uniforms]
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= tile_px).all()


BOXES = np.array([[0, 0, 128, 128], [3, 50, 60, 41], [100, 7, 20, 27], [10, 10, 97, 80]])
FLIPS = np.array([False, True, False, True])


@pytest.mark.parametrize("size_px", [96, 48, 160])
@pytest.mark.parametrize("way", [resized_crops, _by_matrices])
def test_crops_are_pillows(way: Callable[..., torch.Tensor], size_px: int) -> None:
    images = photo(4, 128)
    ours = way(images, BOXES, FLIPS, size_px)
    for image, (top, left, height, width), flip, our in zip(images.numpy(), BOXES, FLIPS, ours, strict=True):
        box = Image.fromarray(image).crop((left, top, left + width, top + height)).resize((size_px, size_px), Image.Resampling.BICUBIC)
        theirs = np.asarray(box.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else box).transpose(2, 0, 1)
        difference = np.abs(our.numpy() - theirs)
        assert difference.mean() < 0.3  # grey levels
        assert (difference > 1).mean() < 0.006
        assert difference.max() <= 8


@pytest.mark.parametrize("way", [resized_crops, _by_matrices])
def test_several_views_are_cut_one_after_the_other(way: Callable[..., torch.Tensor]) -> None:
    images, order = photo(4, 128), [2, 0, 3, 1]
    together = way(images, np.concatenate([BOXES, BOXES[order]]), np.concatenate([FLIPS, FLIPS[order]]), 48)
    assert torch.equal(together, torch.cat([way(images, BOXES, FLIPS, 48), way(images, BOXES[order], FLIPS[order], 48)]))


@pytest.mark.parametrize(("length", "to_px"), [(128, 96), (31, 96), (100, 33)])
def test_the_matrix_is_torchs_kernel(length: int, to_px: int) -> None:
    start = (128 - length) // 2
    matrix = resize_matrix(torch.tensor([float(start)]), torch.tensor([float(length)]), 128, to_px)[0].double()
    line = torch.rand(128, dtype=torch.float64)
    theirs = F.interpolate(line[None, None, None, start : start + length], size=(1, to_px), mode="bicubic", antialias=True)[0, 0, 0]
    assert torch.allclose(matrix @ line, theirs, atol=1e-5)
