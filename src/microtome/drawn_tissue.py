"""Tissue that is drawn, not scanned: pieces of H&E-like tissue with nuclei, fibres, glands and vacuoles, for the demo and the tests.

A piece is made in micrometres and rendered at any resolution, as concentrations of the two stains. What tells a lesion from the
tissue around it is the arrangement of nuclei and cytoplasm alone: the local mean of each stain is made even everywhere, so that
no mean colour gives a lesion away.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from microtome.drawn_shapes import Plane, Points, blob, blurred, ellipses, even_points, evened, ring_points, rng_of, smooth_noise, waves

EVEN_UM = 24.0  # scale (sigma) over which a stain's mean is made even: well below a tile's side of 64 µm or more
LESION_FRACTION = 0.6  # of a piece of a positive slide
LESION_CELL_UM = 14.0  # distance of neighbouring cells in a lesion
LESION_PATCH_UM = 130.0
FIBRE_UM = 8.0  # distance of neighbouring fibres
FIBRE_STRENGTH = 0.45
BOX = 2.6  # sides of a piece's box in semi-axes


@dataclass(frozen=True)
class Texture:
    """What an organ looks like. Lengths in µm (a distance of 0: none); stains as mean concentrations."""

    nuclei_um: float  # distance of neighbouring nuclei
    nucleus_um: float
    elongation: float
    eosin: float
    hematoxylin: float
    gland_um: float  # distance of neighbouring glands
    vacuoles_um: float  # distance of neighbouring vacuoles
    vacuole_um: float


ORGANS = {
    "breast": Texture(21, 3.0, 1.5, 0.60, 0.22, 150, 94, 17),
    "colon": Texture(18, 2.9, 1.3, 0.48, 0.27, 92, 0, 0),
    "liver": Texture(20, 3.4, 1.05, 0.62, 0.24, 0, 36, 4.5),
    "lymph node": Texture(13, 2.7, 1.05, 0.38, 0.34, 0, 140, 8),
}


@dataclass(frozen=True)
class Piece:
    """A piece of tissue: stain concentrations and how much of a pixel is tissue (0-1)."""

    hematoxylin: Plane
    eosin: Plane
    tissue: Plane


@dataclass(frozen=True)
class Frame:
    """The box a piece is drawn in: pixels [height, width], the same in µm (width, height), and µm/px."""

    shape: tuple[int, int]
    size_um: tuple[float, float]
    mpp: float


def draw_piece(
    seed: tuple[int, ...], semi_axes_um: tuple[float, float], mpp: float, texture: Texture, lesion: bool, aligned: bool
) -> Piece:
    """Draw one piece at `mpp` µm/px.

    Args:
        lesion: `LESION_FRACTION` of the piece is pale cells around large, dark nuclei.
        aligned: strong fibres lie side by side in the stroma; else it is a faint felt.
    """
    size_um = (BOX * semi_axes_um[0], BOX * semi_axes_um[1])
    frame = Frame((round(size_um[1] / mpp), round(size_um[0] / mpp)), size_um, mpp)
    outline = blob(rng_of(*seed, 1), frame.shape, (semi_axes_um[0] / mpp, semi_axes_um[1] / mpp), 1.0 / mpp)
    glands = even_points(rng_of(*seed, 2), size_um, texture.gland_um, 0.5)
    holes = _holes(rng_of(*seed, 3), frame, texture, glands)
    tissue = outline * (1 - holes)
    region = _lesion_region(rng_of(*seed, 4), frame, outline) if lesion else np.zeros(frame.shape, bool)
    cells = even_points(rng_of(*seed, 5), size_um, LESION_CELL_UM)
    nuclei = _nuclei(rng_of(*seed, 6), frame, texture, glands, cells, region)
    stroma = 1 + _fibres(rng_of(*seed, 7), frame, aligned)
    eosin = stroma * (1 - 0.85 * _pale_cells(rng_of(*seed, 8), frame, cells, region)) * (1 - 0.5 * nuclei)
    hematoxylin = nuclei * (1 + 0.25 * smooth_noise(rng_of(*seed, 9), frame.shape, 1.2 / mpp)) + np.float32(0.04)
    return Piece(
        evened(hematoxylin, tissue, texture.hematoxylin, EVEN_UM / mpp) * tissue,
        evened(eosin, tissue, texture.eosin, EVEN_UM / mpp) * tissue,
        tissue,
    )


def _lesion_region(rng: np.random.Generator, frame: Frame, outline: Plane) -> npt.NDArray[np.bool_]:
    patches = smooth_noise(rng, frame.shape, LESION_PATCH_UM / frame.mpp)
    return np.asarray(patches > np.quantile(patches[outline > 0.5], 1 - LESION_FRACTION))


def _holes(rng: np.random.Generator, frame: Frame, texture: Texture, glands: Points) -> Plane:
    """Vacuoles (fat, sinusoids) and the lumens of glands."""
    vacuoles = even_points(rng, frame.size_um, texture.vacuoles_um, 0.9)
    radius = np.repeat([texture.vacuole_um, 0.15 * texture.gland_um], [len(vacuoles), len(glands)])
    semi = radius[:, None] * rng.uniform(0.55, 1.15, (len(radius), 2))
    points = np.concatenate([vacuoles, glands])
    return blurred(
        ellipses(frame.shape, points / frame.mpp, semi / frame.mpp, rng.uniform(0, 180, len(radius)), np.ones(len(radius))), 0.8 / frame.mpp
    )


def _nuclei(
    rng: np.random.Generator, frame: Frame, texture: Texture, glands: Points, cells: Points, region: npt.NDArray[np.bool_]
) -> Plane:
    """Nuclei of stroma and glands outside the lesion's region, of its cells within."""
    spread = even_points(rng, frame.size_um, texture.nuclei_um)
    rings, radial = ring_points(rng, glands, 0.3 * texture.gland_um, 5.5)
    points = np.concatenate([spread, rings, cells])
    kind = np.repeat([0, 1, 2], [len(spread), len(rings), len(cells)])
    angle = rng.uniform(0, 180, len(points))
    angle[kind == 1] = radial
    semi = np.choose(kind, [texture.nucleus_um, texture.nucleus_um, 3.2]) * rng.normal(1, 0.12, len(points)).clip(0.6, 1.5)
    stretch = np.sqrt(np.choose(kind, [texture.elongation, 1.6, 1.2]))
    value = np.choose(kind, [0.75, 0.75, 1.0]) * rng.uniform(0.7, 1.0, len(points))
    here = _at(region, points / frame.mpp) == (kind == 2)
    semi_px = np.stack([semi * stretch, semi / stretch], 1) / frame.mpp
    return blurred(ellipses(frame.shape, points[here] / frame.mpp, semi_px[here], angle[here], value[here]), 0.45 / frame.mpp)


def _fibres(rng: np.random.Generator, frame: Frame, aligned: bool) -> Plane:
    """How the stain of the stroma varies: bundles of wavy fibres in one direction, or a faint felt."""
    if not aligned:
        return np.float32(0.15) * np.tanh(smooth_noise(rng, frame.shape, FIBRE_UM / frame.mpp))
    fibres = waves(rng, frame.shape, FIBRE_UM / frame.mpp, rng.uniform(0, 180), 50 / frame.mpp)
    bundles = 1 + np.float32(0.5) * smooth_noise(rng, frame.shape, 2.5 * FIBRE_UM / frame.mpp)
    return np.float32(FIBRE_STRENGTH) * np.clip(fibres * bundles, -1.6, 1.6)


def _pale_cells(rng: np.random.Generator, frame: Frame, cells: Points, region: npt.NDArray[np.bool_]) -> Plane:
    """The clear cytoplasm of the lesion's cells, with a membrane between neighbours."""
    here = cells[_at(region, cells / frame.mpp)] / frame.mpp
    semi = rng.uniform(0.36, 0.46, (len(here), 2)) * LESION_CELL_UM / frame.mpp
    return blurred(ellipses(frame.shape, here, semi, rng.uniform(0, 180, len(here)), np.ones(len(here))), 0.6 / frame.mpp)


def _at(region: npt.NDArray[np.bool_], points_px: Points) -> npt.NDArray[np.bool_]:
    """The region's value at points; the nearest pixel's outside the box."""
    column, row = np.round(points_px).astype(int).T
    return np.asarray(region[row.clip(0, region.shape[0] - 1), column.clip(0, region.shape[1] - 1)])
