"""Tissue that is drawn, not scanned: pieces of H&E-like tissue with nuclei, fibres, glands and vacuoles, for the demo and the tests.

A piece is made in micrometres and rendered at any resolution. Stain concentrations become colours by the Beer-Lambert law with the stain
vectors of Macenko et al. 2009. What tells a lesion from the tissue around it is the arrangement of its nuclei alone: the local mean
of each stain is made equal everywhere, so that no mean colour gives a lesion away.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

HEMATOXYLIN = np.array([0.5626, 0.7201, 0.4062], np.float32)  # optical density (natural log) of R, G, B at concentration 1
EOSIN = np.array([0.2159, 0.8012, 0.5581], np.float32)
DAB = np.array([0.268, 0.570, 0.776], np.float32)  # the brown of immunohistochemistry (Ruifrok and Johnston 2001)
EVEN_UM = 24.0  # scale (sigma) over which a stain's mean is made even: well below a tile's side of 64 µm or more
SUBPIXEL_BITS = 4  # OpenCV draws on 1/16 pixel


@dataclass(frozen=True)
class Texture:
    """What an organ looks like. Lengths in µm; `nuclei` and `vacuoles` a mm²; `eosin` and `hematoxylin` mean concentrations."""

    nuclei: float
    nucleus_um: float
    elongation: float
    eosin: float
    hematoxylin: float
    fibre_um: float
    fibre_strength: float
    gland_um: float  # distance of neighbouring glands; 0: none
    vacuoles: float
    vacuole_um: float


ORGANS = {
    "breast": Texture(2600, 3.0, 1.5, 0.62, 0.20, 16, 0.45, 150, 130, 17),
    "colon": Texture(3600, 2.9, 1.3, 0.48, 0.27, 22, 0.20, 92, 0, 0),
    "liver": Texture(3000, 3.4, 1.05, 0.66, 0.24, 30, 0.12, 0, 900, 4.5),
    "lymph node": Texture(7200, 2.7, 1.05, 0.34, 0.38, 26, 0.15, 0, 60, 8),
}


def rng_of(*position: int) -> np.random.Generator:
    """A generator that depends on the seed and the position alone."""
    return np.random.default_rng(list(position))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> Plane:
    """Noise with mean about 0 and sd about 1 that varies over `scale_px` pixels, [height, width]."""
    small = tuple(max(2, int(np.ceil(side / scale_px)) + 3) for side in shape)
    coarse = rng.standard_normal(small, dtype=np.float32)
    size = (int(small[1] * scale_px) + 1, int(small[0] * scale_px) + 1)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.float32)[: shape[0], : shape[1]] * np.float32(1.2)


def blob(rng: np.random.Generator, shape: tuple[int, int], semi_axes_px: tuple[float, float], edge_px: float) -> Plane:
    """A rounded, ragged shape around the centre: 1 within, 0 outside, soft over `edge_px`, [height, width]."""
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    waves = range(2, 24)
    radius = 1 + sum(0.22 / k**1.3 * rng.standard_normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in waves)
    radius = np.clip(radius / np.sqrt(np.mean(np.square(radius))), 0.75, 1.2)
    outline = np.stack(
        [shape[1] / 2 + semi_axes_px[0] * radius * np.cos(angle), shape[0] / 2 + semi_axes_px[1] * radius * np.sin(angle)], 1
    )
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 255)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(edge_px, 0.5)), np.float32) / np.float32(255)


def even_points(rng: np.random.Generator, size_um: tuple[float, float], per_mm2: float, jitter: float = 0.35) -> Points:
    """Points that keep their distance, (x, y) in µm: a hexagonal lattice, each point moved a little, [n, 2]."""
    step = np.sqrt(2 / np.sqrt(3) * 1e6 / per_mm2)
    x, y = np.meshgrid(np.arange(0, size_um[0], step), np.arange(0, size_um[1], step * np.sqrt(3) / 2))
    x = x + step / 2 * (np.arange(len(x)) % 2)[:, None]
    return np.stack([x.ravel(), y.ravel()], 1) + rng.normal(0, jitter * step / 2, (x.size, 2))


def clumped_points(rng: np.random.Generator, size_um: tuple[float, float], per_mm2: float, clump_um: float = 42.0) -> Points:
    """As many points, but in dense clumps about `clump_um` apart, [n, 2]."""
    centres = even_points(rng, size_um, 1e6 / clump_um**2)
    each = max(2, round(per_mm2 * clump_um**2 / 1e6))
    return np.repeat(centres, each, axis=0) + rng.normal(0, clump_um / 7, (len(centres) * each, 2))


def ring_points(rng: np.random.Generator, centres: Points, radius_um: float, spacing_um: float) -> tuple[Points, Points]:
    """Points on rings around `centres`, and their radial directions in degrees, [n, 2] and [n]."""
    each = max(6, round(2 * np.pi * radius_um / spacing_um))
    angle = np.tile(np.linspace(0, 2 * np.pi, each, endpoint=False), len(centres)) + rng.normal(0, 0.05, each * len(centres))
    radius = radius_um * rng.normal(1, 0.06, len(angle))
    points = np.repeat(centres, each, axis=0) + np.stack([radius * np.cos(angle), 0.8 * radius * np.sin(angle)], 1)
    return points, np.degrees(angle)


def ellipses(shape: tuple[int, int], points_px: Points, semi_px: Points, angle: Points, value: Points) -> Plane:
    """Filled ellipses of the given grey values (0-1), [height, width]; later ones cover earlier ones."""
    layer = np.zeros(shape, np.uint8)
    scale = 1 << SUBPIXEL_BITS
    centres, axes = np.round(points_px * scale).astype(int), np.round(semi_px * scale).astype(int)
    for centre, axis, degrees, grey in zip(centres.tolist(), axes.tolist(), angle.tolist(), (value * 255).tolist(), strict=True):
        cv2.ellipse(layer, centre, axis, degrees, 0, 360, grey, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return layer.astype(np.float32) / np.float32(255)


def evened(stain: Plane, tissue: Plane, mean: float, mpp: float) -> Plane:
    """The stain scaled so that its mean over `EVEN_UM` around every place of the tissue is `mean`."""
    step = max(1, round(EVEN_UM / 3 / mpp))
    small = (max(1, stain.shape[1] // step), max(1, stain.shape[0] // step))

    def around(plane: Plane) -> Plane:
        return np.asarray(cv2.GaussianBlur(cv2.resize(plane, small, interpolation=cv2.INTER_AREA), (0, 0), 3), np.float32)

    gain = np.float32(mean) * around(tissue) / np.maximum(around(stain * tissue), np.float32(1e-3))
    return stain * np.asarray(cv2.resize(np.minimum(gain, 20), stain.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


@dataclass(frozen=True)
class Piece:
    """A piece of tissue: stain concentrations and how much of a pixel is tissue (0-1), each [height, width] float32."""

    hematoxylin: Plane
    eosin: Plane
    tissue: Plane


def draw_piece(
    seed: tuple[int, ...], semi_axes_um: tuple[float, float], mpp: float, texture: Texture, lesion: bool, aligned: bool
) -> Piece:
    """Draw one piece at `mpp` µm/px.

    Args:
        lesion: half of the piece has large nuclei in clumps; else all nuclei are small and evenly spread.
        aligned: fibres and the nuclei of the stroma lie in one direction; else in every direction.
    """
    size_um = (2.6 * semi_axes_um[0], 2.6 * semi_axes_um[1])
    shape = (round(size_um[1] / mpp), round(size_um[0] / mpp))
    outline = blob(rng_of(*seed, 1), shape, (semi_axes_um[0] / mpp, semi_axes_um[1] / mpp), 1.0 / mpp)
    glands = even_points(rng_of(*seed, 2), size_um, 1e6 / texture.gland_um**2, 0.5) if texture.gland_um else np.zeros((0, 2))
    holes = _holes(rng_of(*seed, 3), shape, size_um, mpp, texture, glands)
    tissue = outline * (1 - holes)
    patches = smooth_noise(rng_of(*seed, 4), shape, 130 / mpp)
    region = patches > np.median(patches[outline > 0.5]) if lesion else np.zeros(shape, bool)
    nuclei = _nuclei(seed, shape, size_um, mpp, texture, glands, region, aligned) * (1 - holes)
    eosin = (1 + texture.fibre_strength * _fibres(rng_of(*seed, 5), shape, mpp, texture.fibre_um, aligned)) * (1 - 0.5 * nuclei)
    hematoxylin = nuclei * (1 + 0.25 * smooth_noise(rng_of(*seed, 6), shape, 1.2 / mpp)) + np.float32(0.04)
    return Piece(evened(hematoxylin, tissue, texture.hematoxylin, mpp) * tissue, evened(eosin, tissue, texture.eosin, mpp) * tissue, tissue)


def _holes(
    rng: np.random.Generator, shape: tuple[int, int], size_um: tuple[float, float], mpp: float, texture: Texture, glands: Points
) -> Plane:
    vacuoles = even_points(rng, size_um, texture.vacuoles, 0.9) if texture.vacuoles else np.zeros((0, 2))
    points = np.concatenate([vacuoles, glands])
    radius = np.concatenate([np.full(len(vacuoles), texture.vacuole_um), np.full(len(glands), 0.15 * texture.gland_um)])
    semi = radius[:, None] * rng.uniform(0.55, 1.15, (len(points), 2))
    holes = ellipses(shape, points / mpp, semi / mpp, rng.uniform(0, 180, len(points)), np.ones(len(points)))
    return np.asarray(cv2.GaussianBlur(holes, (0, 0), 0.8 / mpp), np.float32)


def _nuclei(
    seed: tuple[int, ...],
    shape: tuple[int, int],
    size_um: tuple[float, float],
    mpp: float,
    texture: Texture,
    glands: Points,
    region: npt.NDArray[np.bool_],
    aligned: bool,
) -> Plane:
    rng = rng_of(*seed, 7)
    spread = even_points(rng, size_um, texture.nuclei)
    rings, radial = ring_points(rng, glands, 0.3 * texture.gland_um, 5.5)
    clumps = clumped_points(rng, size_um, texture.nuclei / 2.6)
    direction = rng.normal(20, 12, len(spread)) if aligned else rng.uniform(0, 180, len(spread))
    points = np.concatenate([spread, rings, clumps])
    angle = np.concatenate([direction, radial, rng.uniform(0, 180, len(clumps))])
    lesional = np.repeat([False, True], [len(spread) + len(rings), len(clumps)])
    long = texture.nucleus_um * np.where(lesional, 1.75, 1.0) * rng.normal(1, 0.12, len(points)).clip(0.6, 1.5)
    stretch = np.concatenate(
        [np.full(len(spread), texture.elongation * (1.5 if aligned else 1)), np.full(len(rings), 1.6), np.full(len(clumps), 1.2)]
    )
    semi = np.stack([long * np.sqrt(stretch), long / np.sqrt(stretch)], 1)
    column, row = np.round(points / mpp).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < shape[1]) & (row < shape[0])
    here = np.zeros(len(points), bool)
    here[inside] = region[row[inside], column[inside]] == lesional[inside]
    layer = ellipses(shape, points[here] / mpp, semi[here] / mpp, angle[here], rng.uniform(0.55, 1.0, len(points))[here])
    return np.asarray(cv2.GaussianBlur(layer, (0, 0), 0.45 / mpp), np.float32)


def _fibres(rng: np.random.Generator, shape: tuple[int, int], mpp: float, wavelength_um: float, aligned: bool) -> Plane:
    """Wavy stripes between -1 and 1 in one direction, or smooth noise of the same scale."""
    if not aligned:
        return np.tanh(smooth_noise(rng, shape, wavelength_um / 2.5 / mpp))
    row, column = np.ogrid[: shape[0], : shape[1]]
    phase = (np.float32(np.sin(np.radians(20))) * column - np.float32(np.cos(np.radians(20))) * row) * np.float32(
        mpp * 2 * np.pi / wavelength_um
    )
    return np.sin(phase.astype(np.float32) + 2.2 * smooth_noise(rng, shape, 45 / mpp))
