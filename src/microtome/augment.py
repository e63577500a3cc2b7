"""Augmented views of tiles, many at once on the training device, with parameters drawn for each sample from its position.

Images are float32 [n, 3, h, w] in 0..1 unless said otherwise. Every operation is torchvision's on tensors of floats (its reference in
the tests); the blur is that of a kernel of 13 px, three standard deviations of the widest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from microtome import crops
from microtome.randomness import Stream, uniforms
from microtome.section import Rgb

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}  # official DINO, with the probabilities below
JITTER_PROBABILITY = 0.8
GRAY_PROBABILITY = 0.2
FLIP_PROBABILITY = 0.5
BLUR_SIGMA_PX = (0.1, 2.0)
BLUR_RADIUS_PX = 6
GRAY = (0.2989, 0.587, 0.114)
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

    Returns:
        float32 [v * n, 3, size_px, size_px].
    """
    drawn = together([draw(view, number, images.shape[1], seed, pseudo_epoch, positions) for number, view in of_one_size])
    cut = crops.resized_crops(images, drawn.boxes, drawn.flip, of_one_size[0][1].size_px)
    return normalise(recolour(cut.div_(255), drawn), mean, std)


def normalise(images: torch.Tensor, mean: Rgb, std: Rgb) -> torch.Tensor:
    """(images - mean) / std of each channel, in place."""
    for channel, centre, spread in zip(images.unbind(dim=1), mean, std, strict=True):
        channel.sub_(centre).div_(spread)
    return images


def recolour(images: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Jitter, grayscale, blur and solarize, in place, each on the samples that its parameter names."""
    size = max(1, CACHE_FLOATS // images[0].numel()) if images.device.type == "cpu" else len(images)
    for start in range(0, len(images), size):
        part = Parameters(*(getattr(parameters, field.name)[start : start + size] for field in fields(Parameters)))
        _recolour_part(images[start : start + size], part)
    return images


def _recolour_part(images: torch.Tensor, parameters: Parameters) -> None:
    operations = (brightness_, contrast_, saturation_, hue_)
    for slot in range(4):
        for number, operation in enumerate(operations):
            chosen = np.flatnonzero(parameters.jitter & (parameters.order[:, slot] == number))
            _on_some(images, chosen, operation, parameters.factors[chosen, number])
    _on_some(images, np.flatnonzero(parameters.gray), grayscale_)
    blurred = np.flatnonzero(parameters.blur_sigma_px)
    _on_some(images, blurred, blur, parameters.blur_sigma_px[blurred])
    _on_some(images, np.flatnonzero(parameters.solarize), solarize_)


def _on_some(images: torch.Tensor, chosen: NDArray[np.int64], operation: Callable[..., torch.Tensor], *values: NDArray[np.float32]) -> None:
    if len(chosen) == 0:
        return
    device = images.device
    index = torch.from_numpy(chosen).to(device, non_blocking=True)
    arguments = [torch.from_numpy(value).to(device, non_blocking=True).view(-1, 1, 1, 1) for value in values]
    images.index_copy_(0, index, operation(images.index_select(0, index), *arguments))


def luma(images: torch.Tensor) -> torch.Tensor:
    """Grey levels [n, 1, h, w] of images [n, 3, h, w] (ITU-R 601-2)."""
    red, green, blue = images.unsqueeze(2).unbind(dim=1)
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def brightness_(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Multiply by `factor` [n, 1, 1, 1]."""
    return images.mul_(factor).clamp_(0, 1)


def contrast_(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Move away from (`factor` above 1) or towards the image's mean grey level."""
    mean = luma(images).mean(dim=(2, 3), keepdim=True)
    return images.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)


def saturation_(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Move away from or towards the pixel's grey level."""
    grey = luma(images)
    return images.mul_(factor).add_(grey.mul_(1 - factor)).clamp_(0, 1)


def hue_(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turn the hue of HSV by `turns` (a whole circle is 1), keeping saturation and value.

    With value V, chroma C and hue h in sextants, HSV to RGB is V - C clamp(2 - distance, 0, 1), where distance is that of h to the
    channel's opposite hue (3, 5 and 1 for red, green and blue) on a circle of six: hue alone has to be computed, and turned.
    """
    red, green, blue = images.unsqueeze(2).unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    per_chroma = 1 / chroma.clamp(min=1e-12)
    from_red = (green - blue).mul_(per_chroma)
    from_green = (blue - red).mul_(per_chroma).add_(2)
    from_blue = (red - green).mul_(per_chroma).add_(4)
    sextant = from_blue.lerp_(from_green, _equal(green, value)).lerp_(from_red, _equal(red, value)).add_(6 * turns)
    for channel, opposite in zip((red, green, blue), (3, 5, 1), strict=True):
        straight = (sextant - opposite).abs_()
        distance = torch.minimum(straight, (straight - 6).abs_())
        torch.sub(value, distance.neg_().add_(2).clamp_(0, 1).mul_(chroma), out=channel)
    return images


def _equal(images: torch.Tensor, at_least_as_large: torch.Tensor) -> torch.Tensor:
    """1.0 where two images are equal, else 0.0: the weight of a `lerp`. A CPU does this ten times faster than `==` and `where`."""
    return (images - at_least_as_large).mul_(1e30).add_(1).clamp_(min=0)


def grayscale_(images: torch.Tensor) -> torch.Tensor:
    """The grey level in all three channels."""
    return images.copy_(luma(images).expand_as(images))


def blur(images: torch.Tensor, sigma_px: torch.Tensor) -> torch.Tensor:
    """A Gaussian blur of `sigma_px` [n, 1, 1, 1], a kernel of 13 px along each axis; the border is reflected."""
    n, channels, height, width = images.shape
    offset = torch.arange(-BLUR_RADIUS_PX, BLUR_RADIUS_PX + 1, device=images.device).view(1, 1, 1, -1)
    kernel = torch.exp(-0.5 * (offset / sigma_px) ** 2)
    kernel = (kernel / kernel.sum(dim=3, keepdim=True)).repeat_interleave(channels, dim=0)
    padded = F.pad(images, [BLUR_RADIUS_PX] * 4, mode="reflect").view(1, n * channels, height + 2 * BLUR_RADIUS_PX, -1)
    across = F.conv2d(padded, kernel, groups=n * channels)
    return F.conv2d(across, kernel.transpose(2, 3), groups=n * channels).view(n, channels, height, width)


def solarize_(images: torch.Tensor) -> torch.Tensor:
    """Invert what is at least 128 of 255."""
    return images.lerp_(1 - images, (images >= 128 / 255).float())
