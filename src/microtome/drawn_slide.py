"""A drawn slide: pieces of tissue on a white ground, sometimes a pen mark, as a pyramidal TIFF that OpenSlide opens (generic-tiff).

Pixels are those of level 0, rows from the top. The mean colour of the tissue is set exactly: it depends on the pair of
slides and on the organ, not on what the slide shows.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from microtome.drawn_shapes import rng_of
from microtome.drawn_tissue import ORGANS, Piece, draw_piece

Image = npt.NDArray[np.uint8]

HEMATOXYLIN = np.array([0.5626, 0.7201, 0.4062], np.float32)  # optical density (natural log) of R, G, B: Macenko et al. 2009
EOSIN = np.array([0.2159, 0.8012, 0.5581], np.float32)
DAB = np.array([0.268, 0.570, 0.776], np.float32)  # the brown of immunohistochemistry: Ruifrok and Johnston 2001
TISSUE_UM2 = 200_000.0  # at size 1: about 50 tiles of 64 µm
FRAGMENT_UM = 20.0  # semi-axis of the almost empty slide's fragment
SOURCE_TILE_PX = 256
JPEG_QUALITY = 85
SMALLEST_LEVEL_PX = 200
PENS = {"blue": (35, 60, 170), "green": (30, 130, 70)}


@dataclass(frozen=True)
class Drawing:
    """What a slide shows. `colour` numbers the stain batch: slides that share it and the organ have one mean tissue colour."""

    seed: tuple[int, int]
    colour: int
    organ: str
    mpp: float
    size: float
    pieces: int  # 0: a fragment too small to be used
    lesion: bool
    aligned: bool
    pen: str | None
    immunostain: bool = False


def draw_slide(drawing: Drawing) -> Image:
    """Level 0 of a slide, [height, width, 3] uint8 RGB."""
    rng = rng_of(*drawing.seed, 0)
    width_um, height_um = drawing.size * rng.uniform(1050, 1300), drawing.size * rng.uniform(800, 950)
    ground = rng_of(drawing.seed[0], drawing.colour, 100).uniform(242, 245, 3).astype(np.float32)
    canvas = np.empty((round(height_um / drawing.mpp), round(width_um / drawing.mpp), 3), np.uint8)
    canvas[:] = np.round(ground).astype(np.uint8)
    if drawing.pen:
        _pen(rng, canvas, drawing)
    pieces = [
        draw_piece((*drawing.seed, 10 + k), axes, drawing.mpp, ORGANS[drawing.organ], drawing.lesion, drawing.aligned)
        for k, axes in enumerate(_semi_axes(drawing))
    ]
    colours = _coloured(pieces, ground, drawing)
    for k, (piece, colour) in enumerate(zip(pieces, colours, strict=True)):
        _paste(canvas, piece, colour, (k + 0.5) / len(pieces) + rng.uniform(-0.02, 0.02), rng.uniform(0.47, 0.53))
    return canvas


def _semi_axes(drawing: Drawing) -> list[tuple[float, float]]:
    """Semi-axes (x, y) in µm: one broad piece, two, or three cores, of the same area in all."""
    if not drawing.pieces:
        return [(FRAGMENT_UM * drawing.size, FRAGMENT_UM * drawing.size)]
    aspect = {1: 1.35, 2: 0.75, 3: 0.36}[drawing.pieces]
    mean = drawing.size * np.sqrt(TISSUE_UM2 / drawing.pieces / np.pi)
    return [(mean * np.sqrt(aspect), mean / np.sqrt(aspect))] * drawing.pieces


def _coloured(pieces: list[Piece], ground: npt.NDArray[np.float32], drawing: Drawing) -> list[npt.NDArray[np.float32]]:
    """RGB of each piece, [height, width, 3] float32 0-255, with the mean over all tissue pixels that `mean_colour` states."""
    stain = DAB if drawing.immunostain else HEMATOXYLIN
    target = mean_colour(drawing)
    densities = [piece.hematoxylin[..., None] * stain + piece.eosin[..., None] * EOSIN for piece in pieces]
    sample = np.concatenate([density[::5, ::5][piece.tissue[::5, ::5] > 0.5] for density, piece in zip(densities, pieces, strict=True)])
    gain = np.ones(3, np.float32)
    for _ in range(4):  # a fixed point: the mean of an exponential is not the exponential of the mean
        gain *= np.log(ground / target) / np.log(ground / (ground * np.exp(-sample * gain)).mean(0))
    images = [ground * np.exp(-density * gain) for density in densities]
    mean = np.concatenate([image[piece.tissue > 0.5] for image, piece in zip(images, pieces, strict=True)]).mean(0, dtype=np.float64)
    return [image + piece.tissue[..., None] * (target - mean).astype(np.float32) for image, piece in zip(images, pieces, strict=True)]


def mean_colour(drawing: Drawing) -> npt.NDArray[np.float32]:
    """The mean RGB (0-255) of a slide's tissue pixels: the organ's stains, a little stronger or weaker from batch to batch."""
    strength = rng_of(drawing.seed[0], drawing.colour, 101).uniform(0.94, 1.06, 2)
    texture = ORGANS[drawing.organ]
    stain = DAB if drawing.immunostain else HEMATOXYLIN
    density = strength[0] * texture.hematoxylin * stain + strength[1] * texture.eosin * EOSIN
    return np.asarray(246 * np.exp(-0.9 * density), np.float32)


def _paste(canvas: Image, piece: Piece, colour: npt.NDArray[np.float32], x: float, y: float) -> None:
    height, width = piece.tissue.shape
    left, top = round(x * canvas.shape[1] - width / 2), round(y * canvas.shape[0] - height / 2)
    from_row, from_column = max(0, -top), max(0, -left)
    to_row, to_column = min(height, canvas.shape[0] - top), min(width, canvas.shape[1] - left)
    place = canvas[top + from_row : top + to_row, left + from_column : left + to_column]
    cut = (slice(from_row, to_row), slice(from_column, to_column))
    covered = piece.tissue[cut] > 0.002
    place[covered] = np.clip(np.rint(colour[cut][covered]), 0, 255).astype(np.uint8)


def _pen(rng: np.random.Generator, canvas: Image, drawing: Drawing) -> None:
    """A hand-drawn stroke along the slide's left and top, as pathologists mark a region."""
    height, width = canvas.shape[:2]
    t = np.linspace(0, 1, 60)
    x = width * (0.04 + 0.35 * t**2 + 0.01 * np.sin(9 * t + rng.uniform(0, 6)))
    y = height * (0.75 - 0.69 * np.sqrt(t) + 0.012 * np.sin(13 * t + rng.uniform(0, 6)))
    points = np.round(np.stack([x, y], 1) * 16).astype(np.int32)
    thickness = max(3, round(22 * drawing.size / drawing.mpp))
    cv2.polylines(canvas, [points], False, PENS[drawing.pen or "blue"], thickness, cv2.LINE_AA, 4)


def write_pyramid(path: Path, level0: Image, mpp: float, description: str) -> None:
    """Write a slide with levels of half the size down to about `SMALLEST_LEVEL_PX`, a page each, JPEG tiles of 256 px."""
    level, factor = level0, 1
    with tifffile.TiffWriter(path, bigtiff=False) as file:
        while True:
            file.write(
                level,
                tile=(SOURCE_TILE_PX, SOURCE_TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": JPEG_QUALITY},
                resolution=(1e4 / (mpp * factor), 1e4 / (mpp * factor)),
                resolutionunit="CENTIMETER",
                description=description if factor == 1 else None,
                subfiletype=0 if factor == 1 else 1,
                software="microtome",
                metadata=None,
            )
            if min(level.shape[:2]) < 2 * SMALLEST_LEVEL_PX:
                return
            factor *= 2
            level = np.asarray(cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA), np.uint8)
