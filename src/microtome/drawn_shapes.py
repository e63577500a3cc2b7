"""Shapes and noise that drawn tissue is made of. Points are (x, y) in µm or pixels as named; planes are [height, width] float32."""

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

SUBPIXEL_BITS = 4  # OpenCV draws on 1/16 pixel


def rng_of(*position: int) -> np.random.Generator:
    """A generator that depends on the seed and the position alone."""
    return np.random.default_rng(list(position))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> Plane:
    """Noise with mean about 0 and sd about 1 that varies over `scale_px` pixels."""
    small = tuple(max(2, int(np.ceil(side / scale_px)) + 3) for side in shape)
    coarse = rng.standard_normal(small, dtype=np.float32)
    size = (int(small[1] * scale_px) + 1, int(small[0] * scale_px) + 1)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.float32)[: shape[0], : shape[1]] * np.float32(1.2)


def blurred(plane: Plane, sigma_px: float) -> Plane:
    """Gaussian blur; a sigma below half a pixel is taken for half a pixel."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), max(sigma_px, 0.5)), np.float32)


def blob(rng: np.random.Generator, shape: tuple[int, int], semi_axes_px: tuple[float, float], edge_px: float) -> Plane:
    """A rounded, ragged shape around the centre: 1 within, 0 outside, soft over `edge_px`."""
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    radius = 1 + sum(0.22 / k**1.3 * rng.standard_normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 24))
    radius = np.clip(radius / np.sqrt(np.mean(np.square(radius))), 0.75, 1.2)
    outline = np.stack(
        [shape[1] / 2 + semi_axes_px[0] * radius * np.cos(angle), shape[0] / 2 + semi_axes_px[1] * radius * np.sin(angle)], 1
    )
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 255)
    return blurred(mask.astype(np.float32) / np.float32(255), edge_px)


def even_points(rng: np.random.Generator, size_um: tuple[float, float], step_um: float, jitter: float = 0.35) -> Points:
    """Points about `step_um` apart: a hexagonal lattice, moved by `jitter` of half a step (sd), [n, 2] (µm). A step of 0: none."""
    if not step_um:
        return np.zeros((0, 2))
    x, y = np.meshgrid(np.arange(0, size_um[0], step_um), np.arange(0, size_um[1], step_um * np.sqrt(3) / 2))
    x = x + step_um / 2 * (np.arange(len(x)) % 2)[:, None]
    return np.stack([x.ravel(), y.ravel()], 1) + rng.normal(0, jitter * step_um / 2, (x.size, 2))


def ring_points(rng: np.random.Generator, centres: Points, radius_um: float, spacing_um: float) -> tuple[Points, Points]:
    """Points on rings around `centres`, [n, 2] (µm), and their radial directions in degrees, [n]."""
    each = max(6, round(2 * np.pi * radius_um / spacing_um))
    angle = np.tile(np.linspace(0, 2 * np.pi, each, endpoint=False), len(centres)) + rng.normal(0, 0.05, each * len(centres))
    radius = radius_um * rng.normal(1, 0.06, len(angle))
    return np.repeat(centres, each, axis=0) + np.stack([radius * np.cos(angle), 0.8 * radius * np.sin(angle)], 1), np.degrees(angle)


def ellipses(shape: tuple[int, int], points_px: Points, semi_px: Points, angle: Points, value: Points) -> Plane:
    """Filled ellipses of the given grey values (0-1); later ones cover earlier ones.

    Args:
        points_px, semi_px: centres and semi-axes, [n, 2]. angle: of the first axis, degrees, [n]. value: [n].
    """
    layer = np.zeros(shape, np.uint8)
    scale = 1 << SUBPIXEL_BITS
    centres, axes = np.round(points_px * scale).astype(int), np.round(semi_px * scale).astype(int)
    for centre, axis, degrees, grey in zip(centres.tolist(), axes.tolist(), angle.tolist(), (value * 255).tolist(), strict=True):
        cv2.ellipse(layer, centre, axis, degrees, 0, 360, grey, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return layer.astype(np.float32) / np.float32(255)


def evened(plane: Plane, weight: Plane, mean: float, sigma_px: float) -> Plane:
    """`plane` scaled so that its weighted mean over a Gaussian of `sigma_px` around every place is `mean`."""
    step = max(1, round(sigma_px / 3))
    small = (max(1, plane.shape[1] // step), max(1, plane.shape[0] // step))

    def around(values: Plane) -> Plane:
        return blurred(np.asarray(cv2.resize(values, small, interpolation=cv2.INTER_AREA), np.float32), sigma_px / step)

    gain = np.float32(mean) * around(weight) / np.maximum(around(plane * weight), np.float32(1e-3))
    return plane * np.asarray(cv2.resize(np.minimum(gain, np.float32(20)), plane.shape[::-1]), np.float32)


def waves(rng: np.random.Generator, shape: tuple[int, int], wavelength_px: float, degrees: float, waviness_px: float) -> Plane:
    """Stripes between -1 and 1 at an angle to the rows, bent by noise over `waviness_px`."""
    row, column = np.ogrid[: shape[0], : shape[1]]
    across = np.sin(np.radians(degrees)) * column - np.cos(np.radians(degrees)) * row
    phase = across.astype(np.float32) * np.float32(2 * np.pi / wavelength_px)
    return np.asarray(np.sin(phase + np.float32(2) * smooth_noise(rng, shape, waviness_px)), np.float32)
