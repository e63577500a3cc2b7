"""Random resized crops of many tiles at once: the boxes, and the antialiased bicubic resizing with a flip.

Boxes are (top, left, height, width) in px of the tile, drawn as torchvision's RandomResizedCrop draws them.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from microtome.compiled import compiled
from microtome.memory import pinned

ATTEMPTS = 10
UNIFORMS = 2 * ATTEMPTS + 2
LOG_RATIO = (float(np.log(3 / 4)), float(np.log(4 / 3)))


def random_boxes(uniforms: NDArray[np.float32], tile_px: int, scale: tuple[float, float]) -> NDArray[np.int64]:
    """Boxes [n, 4] of random area (`scale`, as a part of the tile's) and aspect ratio (3/4 to 4/3) from numbers [n, UNIFORMS] in [0, 1).

    Of ten attempts the first that fits is taken; where none does, the whole (square) tile is.
    """
    drawn = uniforms.astype(np.float64)
    area = tile_px**2 * (scale[0] + drawn[:, :ATTEMPTS] * (scale[1] - scale[0]))
    ratio = np.exp(LOG_RATIO[0] + drawn[:, ATTEMPTS : 2 * ATTEMPTS] * (LOG_RATIO[1] - LOG_RATIO[0]))
    width, height = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (width > 0) & (width <= tile_px) & (height > 0) & (height <= tile_px)
    rows, first = np.arange(len(drawn)), fits.argmax(axis=1)
    width, height = (np.where(fits.any(axis=1), side[rows, first], tile_px) for side in (width, height))
    top = np.floor(drawn[:, -2] * (tile_px - height + 1))
    left = np.floor(drawn[:, -1] * (tile_px - width + 1))
    return np.stack([top, left, height, width], axis=1).astype(np.int64)


def resized_crops(
    images: torch.Tensor, boxes: NDArray[np.int64], flip: NDArray[np.bool_], size_px: int, fused: bool = False
) -> torch.Tensor:
    """Cut v boxes from each image, resize them (bicubic, antialiased) and flip them left to right where `flip` says so.

    On a CPU torch's own uint8 kernel takes image after image; elsewhere two batched matrix products do all at once. Both are
    Pillow's resizing but for a few pixels in a thousand, where rounding between the passes differs by some grey levels.

    Args:
        images: uint8 [n, H, W, 3].
        boxes: [v * n, 4], those of all images' first views before the second ones.
        flip: [v * n].
        size_px: side of the result.
        fused: on a GPU, have it compiled into fewer kernels.

    Returns:
        float32 [v * n, 3, size_px, size_px] of whole grey levels in 0..255.
    """
    if images.device.type == "cpu":
        return _one_by_one(images, boxes, flip, size_px)
    return _by_matrices(images, boxes, flip, size_px, fused)


def _one_by_one(images: torch.Tensor, boxes: NDArray[np.int64], flip: NDArray[np.bool_], size_px: int) -> torch.Tensor:
    resized = torch.empty(len(boxes), 3, size_px, size_px, dtype=torch.uint8)
    for number, ((top, left, height, width), flipped, out) in enumerate(zip(boxes.tolist(), flip.tolist(), resized, strict=True)):
        box = images[number % len(images), top : top + height, left : left + width].permute(2, 0, 1)[None]
        crop = F.interpolate(box, size=(size_px, size_px), mode="bicubic", antialias=True)[0]
        out.copy_(crop.flip(2) if flipped else crop)
    return resized.float()


def _by_matrices(
    images: torch.Tensor, boxes: NDArray[np.int64], flip: NDArray[np.bool_], size_px: int, fused: bool = False
) -> torch.Tensor:
    one_view = compiled(_one_view) if fused else _one_view
    device = images.device
    places = pinned(torch.from_numpy(boxes.astype(np.float32)), device).to(device, non_blocking=True)
    flipped = pinned(torch.from_numpy(flip), device).to(device, non_blocking=True)
    n, rows, columns, _ = images.shape
    sideways = images.permute(0, 2, 1, 3).reshape(n, columns, rows * 3).float()
    of_views = zip(places.view(-1, n, 4), flipped.view(-1, n, 1, 1), strict=True)
    return torch.cat([one_view(sideways, place, mirror, size_px) for place, mirror in of_views])


def _one_view(sideways: torch.Tensor, place: torch.Tensor, mirror: torch.Tensor, size_px: int) -> torch.Tensor:
    """Boxes `place` [n, 4], one of each image [n, columns, rows * 3], as [n, 3, size_px, size_px]."""
    n, columns, rows = len(sideways), sideways.shape[1], sideways.shape[2] // 3
    top, left, height, width = place.unbind(1)
    down = resize_matrix(top, height, rows, size_px)
    across = resize_matrix(left, width, columns, size_px)
    across = torch.where(mirror, across.flip(1), across)
    stretched = torch.bmm(across, sideways).clamp_(0, 255).round_().view(n, size_px, rows, 3)  # Pillow, too, rounds between the passes
    return torch.einsum("nvhc,nuh->ncuv", stretched, down).clamp_(0, 255).round_()


def resize_matrix(start: torch.Tensor, length: torch.Tensor, from_px: int, to_px: int) -> torch.Tensor:
    """Matrices [n, to_px, from_px] that resize the span `start` .. `start + length` ([n], px) of a line of `from_px` pixels to `to_px`.

    The kernel is Keys' cubic with a = -0.5, widened where the span is shrunk, as in Pillow and torch.
    """
    scale = (length / to_px)[:, None, None]
    centre = start[:, None, None] + scale * (torch.arange(to_px, device=start.device) + 0.5)[None, :, None]
    pixel = torch.arange(from_px, device=start.device)[None, None, :]
    distance = (pixel + 0.5 - centre).abs() / scale.clamp(min=1)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weight = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    inside = (pixel >= start[:, None, None]) & (pixel < (start + length)[:, None, None])
    weight = weight * inside
    return weight / weight.sum(dim=2, keepdim=True)
