"""Slides: opened, measured and read, whatever scanner they come from.

Frame of reference: level 0, the finest level, origin at its top left pixel; lengths in its pixels are named `_px0`. Every other level has a
`downsample` (level-0 pixels per pixel). Label and macro images, which carry patients' names, are never read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
import openslide
from numpy.typing import NDArray
from openslide.lowlevel import OpenSlideError, OpenSlideUnsupportedFormatError

from microtome.config import Reader

Rgb8 = NDArray[np.uint8]  # [height, width, 3], RGB, 0-255
MppSource = Literal["table", "metadata", "tiff resolution", "objective power"]

MAX_ANISOTROPY = 0.02  # ASSUME: pixels are square; scanners differ by far less between x and y
MAX_SIDE_MM = 250.0  # ASSUME: no glass is longer (the usual is 75 mm, that of whole organs 200): a header that claims more is damaged
WHOLE_VENDORS = ("aperio",)  # scan all of a slide: what OpenSlide gives as transparent was lost. Elsewhere it may be left out as background
UM_PER_UNIT = {"centimeter": 10_000.0, "inch": 25_400.0}
TIFF_MAGIC = {b"II*\0": ("little", 4, 4), b"MM\0*": ("big", 4, 4), b"II+\0": ("little", 8, 8), b"MM\0+": ("big", 8, 8)}


class SlideError(Exception):
    """A slide cannot be used. The text is the reason that its row and the catalog show."""


class Slide(Protocol):
    """What every reader of slides offers; a second reader implements this and is chosen in `open_slide`."""

    path: Path
    vendor: str
    level_sizes_px: tuple[tuple[int, int], ...]  # (width, height) of each level, the finest first
    downsamples: tuple[float, ...]  # of each level; the first is 1
    properties: Mapping[str, str]

    def read(self, x_px0: int, y_px0: int, level: int, width_px: int, height_px: int) -> Rgb8:
        """The region of `width_px` x `height_px` pixels of `level` whose top left corner is (x_px0, y_px0) at level 0.

        Unscanned (transparent) areas are white.

        Raises:
            SlideError: the region cannot be read, or was lost (`WHOLE_VENDORS`); names the place.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class OpenSlideReader:
    """Every format that OpenSlide knows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._slide = openslide.OpenSlide(str(path))
        self.properties: Mapping[str, str] = self._slide.properties
        self.vendor = self.properties.get("openslide.vendor", "")
        self.level_sizes_px = self._slide.level_dimensions
        self.downsamples = self._slide.level_downsamples

    def read(self, x_px0: int, y_px0: int, level: int, width_px: int, height_px: int) -> Rgb8:
        """The region of `level` whose top left corner is (x_px0, y_px0) at level 0."""
        try:
            pixels = np.asarray(self._slide.read_region((x_px0, y_px0), level, (width_px, height_px)))
        except OpenSlideError as error:
            raise SlideError(f"cannot read {width_px} x {height_px} px of level {level} at ({x_px0}, {y_px0}): {error}") from error
        if self.vendor in WHOLE_VENDORS:
            self._refuse_holes(pixels[..., 3], x_px0, y_px0, level)
        return on_white(pixels)

    def _refuse_holes(self, alpha: NDArray[np.uint8], x_px0: int, y_px0: int, level: int) -> None:
        downsample = self.downsamples[level]
        width_px, height_px = (math.floor(px - at / downsample) for px, at in zip(self.level_sizes_px[level], (x_px0, y_px0), strict=True))
        holes = np.argwhere(alpha[: max(0, height_px), : max(0, width_px)] == 0)
        if len(holes):
            y, x = (round(at + px * downsample) for at, px in zip((y_px0, x_px0), holes[0], strict=True))
            raise SlideError(f"has no pixels at ({x}, {y}) in level {level}: a tile is missing in the file")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._slide.close()


def on_white(rgba: NDArray[np.uint8]) -> Rgb8:
    """Lay RGBA pixels (alpha not premultiplied) on white and drop alpha."""
    alpha = rgba[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    weighted = rgba[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha.astype(np.uint16))
    return ((weighted + 127) // 255).astype(np.uint8)


def open_slide(path: Path) -> Slide:
    """Open a slide.

    Raises:
        SlideError: why it cannot be opened, in words that help to find the right file.
    """
    if not path.is_file():
        raise SlideError(f"no such file: {path}" if not path.exists() else f"not a file: {path}")
    try:
        return OpenSlideReader(path)
    except OpenSlideUnsupportedFormatError as error:
        raise SlideError(_why_unknown(path)) from error
    except OpenSlideError as error:
        raise SlideError(f"cannot be opened: {error}") from error


def _why_unknown(path: Path) -> str:
    size_b = path.stat().st_size
    if size_b == 0:
        return "the file is empty (0 bytes)"
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the slide itself: fetch it with `git lfs pull`"
    if head[:4] in TIFF_MAGIC:
        order, at, length = TIFF_MAGIC[head[:4]]
        directory_b = int.from_bytes(head[at : at + length], "little" if order == "little" else "big")
        if directory_b >= size_b:
            return f"cut off: its TIFF directory is at byte {directory_b}, the file has {size_b} bytes"
    return "not a slide of a format that OpenSlide knows, or damaged"


@dataclass(frozen=True)
class Resolution:
    """µm per pixel of level 0, and where the number comes from."""

    mpp: float
    source: MppSource


def resolution(properties: Mapping[str, str], table_mpp: float | None, settings: Reader) -> Resolution:
    """µm/px of level 0: from the slide table, the metadata, the TIFF resolution tags, or (only if allowed) 10 / nominal objective power.

    The first that is there decides: an implausible value is a failure, not a reason to look further.

    Raises:
        SlideError: no µm/px is known; x and y differ; or it lies outside [`min_mpp`, `max_mpp`].
    """
    found = _first_resolution(properties, table_mpp, settings.allow_objective_power)
    if found is None:
        power = properties.get("openslide.objective-power")
        hint = f" (nominal power {power}: reader.allow_objective_power would take 10 / {power})" if power else ""
        raise SlideError(f"no µm/px in its metadata{hint}: give it in the slide table's column mpp")
    if not settings.min_mpp <= found.mpp <= settings.max_mpp:
        expected = f"expected {settings.min_mpp} to {settings.max_mpp}"
        raise SlideError(
            f"implausible {found.mpp:g} µm/px (from {found.source}; {expected}): if that is wrong, give it in the slide table's column mpp"
        )
    return found


def _first_resolution(properties: Mapping[str, str], table_mpp: float | None, allow_power: bool) -> Resolution | None:
    if table_mpp is not None and not math.isnan(table_mpp):
        return Resolution(table_mpp, "table")
    mpp = _isotropic(_positive(properties, "openslide.mpp-x"), _positive(properties, "openslide.mpp-y"))
    if mpp is not None:  # OpenSlide itself takes a generic TIFF's µm/px from the resolution tags
        return Resolution(mpp, "tiff resolution" if properties.get("openslide.vendor") == "generic-tiff" else "metadata")
    um = UM_PER_UNIT.get(properties.get("tiff.ResolutionUnit", ""))
    per_unit = _isotropic(_positive(properties, "tiff.XResolution"), _positive(properties, "tiff.YResolution"))
    if um is not None and per_unit is not None:
        return Resolution(um / per_unit, "tiff resolution")
    power = _positive(properties, "openslide.objective-power")
    if allow_power and power is not None:
        return Resolution(10.0 / power, "objective power")
    return None


def check_extent(size_px0: tuple[int, int], mpp: float) -> None:
    """Raise SlideError where level 0 (width, height) at `mpp` µm/px is larger than any glass: it would be read for hours, to no end."""
    side_mm = max(size_px0) * mpp / 1000
    if side_mm > MAX_SIDE_MM:
        what = f"{size_px0[0]} x {size_px0[1]} px of {mpp:g} µm are {side_mm:,.0f} mm long"
        raise SlideError(f"implausible size: {what}, expected at most {MAX_SIDE_MM:g} mm: a damaged header, or a wrong µm/px")


def _positive(properties: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(properties[name])
    except (KeyError, ValueError):
        return None
    return value if value > 0 and math.isfinite(value) else None


def _isotropic(x: float | None, y: float | None) -> float | None:
    if x is None or y is None:
        return None
    if abs(x - y) > MAX_ANISOTROPY * max(x, y):
        raise SlideError(f"pixels are not square: {x:g} along x, {y:g} along y: give their µm/px in the slide table's column mpp")
    return (x + y) / 2
