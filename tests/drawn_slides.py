"""Small pyramidal TIFF slides for tests, of the kinds that scanners write, with their tiles coded as those scanners code them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

Image = NDArray[np.uint8]

PHILIPS = (
    '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
    '<Attribute Name="DICOM_MANUFACTURER" Group="0x0008" Element="0x0070" PMSVR="IString">PHILIPS</Attribute>'
    '<Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray"><Array>'
    '<DataObject ObjectType="DPScannedImage">'
    '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">"{mm:.9f}" "{mm:.9f}"</Attribute>'
    '<Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" PMSVR="IString">WSI</Attribute>'
    '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x301D" Element="0x2006" PMSVR="IDataObjectArray"><Array>'
    "{levels}</Array></Attribute></DataObject></Array></Attribute></DataObject>"
)
PHILIPS_LEVEL = (
    '<DataObject ObjectType="PixelDataRepresentation">'
    '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">"{mm:.9f}" "{mm:.9f}"</Attribute>'
    '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER" Group="0x301D" Element="0x2007" PMSVR="IUInt16">{number}</Attribute>'
    "</DataObject>"
)


def tissue_like(width_px: int, height_px: int, seed: int = 0, blobs: int = 3) -> Image:
    """Pink and violet texture in round pieces on a nearly white ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height_px, :width_px]
    inside = np.zeros((height_px, width_px), bool)
    for _ in range(blobs):
        centre, radius = rng.uniform(0.25, 0.75, 2) * (width_px, height_px), rng.uniform(0.2, 0.35) * min(width_px, height_px)
        inside |= (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    noise = rng.standard_normal((2, height_px, width_px)).astype(np.float32)
    grain = [cv2.GaussianBlur(layer, (0, 0), sigma) * sigma for layer, sigma in zip(noise, (2.0, 12.0), strict=True)]
    pink = np.array([205, 130, 185]) + 25 * grain[0][..., None] * (0.6, 1, 0.6) + 60 * grain[1][..., None] * (1, 0.7, 0.3)
    image = np.where(inside[..., None], pink, 243 + rng.normal(0, 0.7, (height_px, width_px, 1)))
    return np.clip(image, 0, 255).astype(np.uint8)


def write_slide(
    path: Path,
    level0: Image,
    mpp: float = 0.5,
    *,
    kind: str = "generic",
    coding: str = "ycbcr",
    tile_px: int = 256,
    factors: Sequence[int] = (1, 2, 4),
    quality: int = 90,
    subsampling: str = "420",
    missing: Sequence[int] = (),
    padded: bool = False,
) -> Path:
    """Write a slide of a `kind` (generic, aperio, philips), its tiles coded as YCbCr or RGB.

    `missing` tiles of level 0 have no bytes; `padded` levels are stated as large as their tiles, as Philips does.
    """
    height, width = level0.shape[:2]
    described = {
        "generic": None,
        "aperio": f"Aperio Image Library v1\r\n{width}x{height} ({tile_px}x{tile_px}) JPEG/RGB Q={quality}|AppMag = 20|MPP = {mpp}",
        "philips": PHILIPS.format(
            mm=mpp / 1000, levels="".join(PHILIPS_LEVEL.format(mm=mpp * f / 1000, number=n) for n, f in enumerate(factors))
        ),
    }
    with tifffile.TiffWriter(path, bigtiff=False) as file:
        for number, factor in enumerate(factors):
            level = np.asarray(cv2.resize(level0, (width // factor, height // factor), interpolation=cv2.INTER_AREA))
            if padded:
                level = np.pad(level, ((0, -level.shape[0] % tile_px), (0, -level.shape[1] % tile_px), (0, 0)), constant_values=255)
            page = {
                "tile": (tile_px, tile_px),
                "subfiletype": 1 if number else 0,
                "description": described[kind] if number == 0 or kind == "aperio" else None,
                "software": "Philips DP v1.0" if kind == "philips" else None,
                "resolution": (1e4 / (mpp * factor), 1e4 / (mpp * factor)) if kind == "generic" else None,
                "resolutionunit": "CENTIMETER" if kind == "generic" else None,
                "metadata": None,
            }
            if coding == "ycbcr":
                page["subsampling"] = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}[subsampling]
            tiles = _coded(level, tile_px, quality, subsampling if coding == "ycbcr" else "rgb", missing if number == 0 else ())
            file.write(tiles, shape=level.shape, dtype=np.uint8, photometric=coding, compression="jpeg", **page)
    with tifffile.TiffFile(path, mode="r+b") as file:  # the writer always states YCbCr for JPEG
        for page in file.pages:
            page.tags["PhotometricInterpretation"].overwrite(tifffile.PHOTOMETRIC.RGB if coding == "rgb" else tifffile.PHOTOMETRIC.YCBCR)
    return path


def encoded(tile: Image, quality: int, coding: str) -> bytes:
    """A JPEG; `coding` is a chroma subsampling, or rgb for RGB components and no marker that says so."""
    if coding != "rgb":
        return bytes(simplejpeg.encode_jpeg(tile, quality, colorsubsampling=coding))
    jpeg = imagecodecs.jpeg8_encode(tile, quality, colorspace="rgb", outcolorspace="rgb", subsampling="444")
    adobe = jpeg.index(b"\xff\xee")
    return bytes(jpeg[:adobe] + jpeg[adobe + 16 :])


def _coded(level: Image, tile_px: int, quality: int, coding: str, missing: Sequence[int]) -> Iterator[bytes]:
    height, width = level.shape[:2]
    padded = np.pad(level, ((0, -height % tile_px), (0, -width % tile_px), (0, 0)), mode="edge")
    number = 0
    for top in range(0, height, tile_px):
        for left in range(0, width, tile_px):
            tile = np.ascontiguousarray(padded[top : top + tile_px, left : left + tile_px])
            yield b"" if number in missing else encoded(tile, quality, coding)
            number += 1


def write_repeated_slide(path: Path, piece: Image, times: int, mpp: float = 0.5, quality: int = 80) -> Path:
    """An Aperio slide of one level: `piece` (whole 256-px tiles), `times` times across and down, written without holding it in memory."""
    rows, columns = piece.shape[0] // 256, piece.shape[1] // 256
    tiles = list(_coded(piece, 256, quality, "420", ()))
    with tifffile.TiffWriter(path, bigtiff=False) as file:
        file.write(
            (tiles[row % rows * columns + column % columns] for row in range(rows * times) for column in range(columns * times)),
            shape=(piece.shape[0] * times, piece.shape[1] * times, 3),
            dtype=np.uint8,
            photometric="ycbcr",
            compression="jpeg",
            subsampling=(2, 2),
            tile=(256, 256),
            description=f"Aperio Image Library v1\r\n(256x256) JPEG/RGB Q={quality}|AppMag = 20|MPP = {mpp}",
            metadata=None,
        )
    return path


def write_sparse_slide(path: Path, side_px0: int, piece: Image, at_tile: int, mpp: float = 0.25) -> Path:
    """A Philips slide of `side_px0` squared with nothing scanned but `piece` (whole 512-px tiles), from tile (at_tile, at_tile) on."""
    factors = (1, 4, 16, 64)
    described = PHILIPS.format(
        mm=mpp / 1000, levels="".join(PHILIPS_LEVEL.format(mm=mpp * f / 1000, number=n) for n, f in enumerate(factors))
    )
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for factor in factors:
            side_px = side_px0 // factor
            level = np.full((512 * (piece.shape[0] // 512 // factor + 2), 512 * (piece.shape[1] // 512 // factor + 2), 3), 243, np.uint8)
            inside = at_tile * 512 // factor % 512
            small = np.asarray(cv2.resize(piece, (piece.shape[1] // factor, piece.shape[0] // factor), interpolation=cv2.INTER_AREA))
            level[inside : inside + small.shape[0], inside : inside + small.shape[1]] = small
            file.write(
                _coded_piece(level, side_px, at_tile * 512 // factor // 512),
                shape=(side_px, side_px, 3),
                dtype=np.uint8,
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 2),
                tile=(512, 512),
                subfiletype=0 if factor == 1 else 1,
                description=described if factor == 1 else None,
                software="Philips DP v1.0",
                metadata=None,
            )
    return path


def _coded_piece(level: Image, side_px: int, first: int) -> Iterator[bytes]:
    tiles_a_side = -(-side_px // 512)
    for row in range(tiles_a_side):
        for column in range(tiles_a_side):
            top, left = (row - first) * 512, (column - first) * 512
            here = 0 <= top < level.shape[0] and 0 <= left < level.shape[1]
            yield encoded(np.ascontiguousarray(level[top : top + 512, left : left + 512]), 85, "420") if here else b""
