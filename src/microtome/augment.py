"""Augmented views of tiles, many at once on the training device, with parameters drawn for each sample from its position."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from microtome import colour, crops
from microtome.compiled import compiled
from microtome.memory import pinned
from microtome.randomness import Stream, uniforms
from microtome.section import Rgb

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}  # official DINO, with the probabilities below
JITTER_PROBABILITY = 0.8
GRAY_PROBABILITY = 0.2
FLIP_PROBABILITY = 0.5
BLUR_SIGMA_PX = (0.1, 2.0)
CACHE_FLOATS = 2**20  # a CPU works on as many samples at a time as its cache holds


@dataclass(frozen=True)
class View:
    """How one view of a tile is made: a random resized crop with a flip, and with `colour` also jitter and what follows it in DINO."""

    size_px: int
    scale: tuple[float, float]
    colour: bool
    blur_probability: float = 0.0
    solarize_probability: float = 0.0


@dataclass(frozen=True)
class Parameters:
    """What is done to each of n samples. `order` [n, 4] is the order of the jitter's four operations; a blur of 0 px is none."""

    boxes: NDArray[np.int64]
    flip: NDArray[np.bool_]
    jitter: NDArray[np.bool_]
    order: NDArray[np.int64]
    factors: NDArray[np.float32]
    gray: NDArray[np.bool_]
    blur_sigma_px: NDArray[np.float32]
    solarize: NDArray[np.bool_]


def draw(view: View, number: int, tile_px: int, seed: int, pseudo_epoch: int, positions: NDArray[np.int64]) -> Parameters:
    """The parameters of view `number` for the tiles (of side `tile_px`) at `positions` of a pseudo-epoch's schedule."""
    drawn = uniforms(seed, Stream.VIEW + number, pseudo_epoch, positions, crops.UNIFORMS + 14)
    boxes = crops.random_boxes(drawn[:, : crops.UNIFORMS], tile_px, view.scale)
    flip, jitter, gray, blur, sigma, solarize, *rest = drawn[:, crops.UNIFORMS :].T
    strength = np.array(list(JITTER.values()), dtype=np.float32)
    neutral = np.array([1, 1, 1, 0], dtype=np.float32)
    low, high = BLUR_SIGMA_PX
    return Parameters(
        boxes=boxes,
        flip=flip < FLIP_PROBABILITY,
        jitter=(jitter < JITTER_PROBABILITY) & view.colour,
        order=np.stack(rest[:4], axis=1).argsort(axis=1),
        factors=neutral + strength * (2 * np.stack(rest[4:8], axis=1) - 1),
        gray=(gray < GRAY_PROBABILITY) & view.colour,
        blur_sigma_px=np.where(blur < view.blur_probability, low + sigma * (high - low), 0).astype(np.float32),
        solarize=solarize < view.solarize_probability,
    )


def together(parameters: Sequence[Parameters]) -> Parameters:
    """The parameters of several views one after the other."""
    return Parameters(*(np.concatenate([getattr(one, field.name) for one in parameters]) for field in fields(Parameters)))


def views(
    images: torch.Tensor,
    of_one_size: Sequence[tuple[int, View]],
    seed: int,
    pseudo_epoch: int,
    positions: NDArray[np.int64],
    mean: Rgb,
    std: Rgb,
    fused: bool = False,
) -> torch.Tensor:
    """Normalised views of tiles, view after view.

    Args:
        images: uint8 [n, tile_px, tile_px, 3].
        of_one_size: v numbered views with the same `size_px`.
        seed: of the run.
        pseudo_epoch: of the schedule.
        positions: [n] in it.
        mean: subtracted from RGB in 0..1.
        std: then divided by.
        fused: on a GPU, have what is elementwise compiled into few kernels: the same within rounding, in less than half the time.

    Returns:
        float32 [v * n, 3, size_px, size_px].
    """
    drawn = together([draw(view, number, images.shape[1], seed, pseudo_epoch, positions) for number, view in of_one_size])
    cut = crops.resized_crops(images, drawn.boxes, drawn.flip, of_one_size[0][1].size_px, fused)
    if fused and cut.is_cuda:
        return recolour_fused(cut, drawn, mean, std)
    return colour.normalise(recolour(cut.div_(255), drawn), mean, std)


def recolour(images: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Jitter, grayscale, blur and solarize, in place, each on the samples that its parameter names."""
    size = max(1, CACHE_FLOATS // images[0].numel()) if images.device.type == "cpu" else len(images)
    for start in range(0, len(images), size):
        part = Parameters(*(getattr(parameters, field.name)[start : start + size] for field in fields(Parameters)))
        _recolour_part(images[start : start + size], part)
    return images


def _recolour_part(images: torch.Tensor, parameters: Parameters) -> None:
    operations = (colour.brightness_, colour.contrast_, colour.saturation_, colour.hue_)
    for slot in range(4):
        for number, operation in enumerate(operations):
            chosen = np.flatnonzero(parameters.jitter & (parameters.order[:, slot] == number))
            _on_some(images, chosen, operation, parameters.factors[chosen, number])
    _on_some(images, np.flatnonzero(parameters.gray), colour.grayscale_)
    blurred = np.flatnonzero(parameters.blur_sigma_px)
    _on_some(images, blurred, colour.blur, parameters.blur_sigma_px[blurred])
    _on_some(images, np.flatnonzero(parameters.solarize), colour.solarize_)


def _on_some(images: torch.Tensor, chosen: NDArray[np.int64], operation: Callable[..., torch.Tensor], *values: NDArray[np.float32]) -> None:
    if len(chosen) == 0:
        return
    device = images.device
    index = torch.from_numpy(chosen).to(device, non_blocking=True)
    arguments = [torch.from_numpy(value).to(device, non_blocking=True).view(-1, 1, 1, 1) for value in values]
    images.index_copy_(0, index, operation(images.index_select(0, index), *arguments))


def recolour_fused(images: torch.Tensor, parameters: Parameters, mean: Rgb, std: Rgb) -> torch.Tensor:
    """What `recolour` and `normalise` do, to whole grey levels in 0..255. Of each sample's jitter all is computed, and a part is taken."""

    def sent(values: NDArray[Any]) -> torch.Tensor:
        return pinned(torch.from_numpy(values), images.device).to(images.device, non_blocking=True)[..., None, None, None]

    order = np.where(parameters.jitter[:, None], parameters.order, 0)
    factors = np.where(parameters.jitter[:, None], np.take_along_axis(parameters.factors, order, axis=1), np.float32(1))
    if parameters.jitter.any() or parameters.gray.any():
        images = compiled(colour.jittered)(images, sent(order.T.copy()), sent(factors.T.copy()), sent(parameters.gray))
    else:
        images = images.div_(255)
    blurred = np.flatnonzero(parameters.blur_sigma_px)
    _on_some(images, blurred, colour.blur, parameters.blur_sigma_px[blurred])
    finished: torch.Tensor = compiled(colour.finished)(images, sent(parameters.solarize), mean, std)
    return finished
