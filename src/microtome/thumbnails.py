"""Thumbnails of slides: read from the coarsest level that has enough pixels, block by block, each pixel the mean of what it covers."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from microtome.atomic import atomic_path
from microtome.slides import Rgb8, Slide, SlideError

BLOCK_PX = 4096  # side of what is read at once: memory stays flat, however large the level
GIGAPIXEL = 10**9  # of level 0, which takes minutes to hours to read: no thumbnail does
ENOUGH = 1.01  # a level this much coarser still serves: downsamples are not quite whole numbers on many slides
OVERLAY_PX = 1024  # the longest side of an overlay, where the slide is not larger
OUTLINE = (0, 190, 60)
VEIL = 0.45  # how much white is laid on what is not tissue
SHEET_CELL_PX, SHEET_LABEL_PX, SHEET_COLUMNS = 220, 18, 12
SHEET_LETTERS = 36  # a line of a note
SHEET_SLIDES = 600  # a sheet of 2,640 x 11,900 px


def read_thumbnail(
    slide: Slide, extent_px0: tuple[float, float], width_px: int, height_px: int, origin_px0: tuple[float, float] = (0.0, 0.0)
) -> Rgb8:
    """[height_px, width_px, 3]: the part of the slide that begins at `origin_px0` (x, y) and is `extent_px0` large, area-averaged.

    Raises:
        SlideError: it cannot be read, or would be a gigapixel of level 0 (`one_level.open_for_thumbnail` makes JPEG tiles smaller).
    """
    scale_px0 = extent_px0[0] / width_px, extent_px0[1] / height_px
    refuse_gigapixel(slide, extent_px0, min(scale_px0))
    level = sufficient_level(slide, min(scale_px0))
    downsample = slide.downsamples[level]
    scale_px = scale_px0[0] / downsample, scale_px0[1] / downsample
    x_px, y_px = origin_px0[0] / downsample, origin_px0[1] / downsample
    thumbnail = np.empty((height_px, width_px, 3), np.uint8)
    for top, bottom in _blocks(height_px, scale_px[1]):
        for left, right in _blocks(width_px, scale_px[0]):
            box = x_px + left * scale_px[0], y_px + top * scale_px[1], x_px + right * scale_px[0], y_px + bottom * scale_px[1]
            thumbnail[top:bottom, left:right] = _read_averaged(slide, level, box, right - left, bottom - top)
    return thumbnail


def refuse_gigapixel(slide: Slide, extent_px0: tuple[float, float], scale_px0: float) -> None:
    """Raise SlideError where a picture of that extent, its pixels `scale_px0` level-0 pixels wide, would read a gigapixel of level 0."""
    if sufficient_level(slide, scale_px0) == 0 and extent_px0[0] * extent_px0[1] >= GIGAPIXEL:
        width_px0, height_px0 = slide.level_sizes_px[0]
        raise SlideError(
            f"{width_px0} x {height_px0} px without a small level: expected a pyramid, or JPEG tiles in a TIFF, for a gigapixel. "
            f"Make one: vips tiffsave {slide.path.name} pyramid.tiff --tile --pyramid --compression jpeg --Q 90 --bigtiff"
        )


def sufficient_level(slide: Slide, scale_px0: float) -> int:
    """The coarsest level from which a picture can be made whose pixels are `scale_px0` level-0 pixels wide."""
    coarsest = max(1.0, ENOUGH * scale_px0)
    return max(number for number, downsample in enumerate(slide.downsamples) if downsample <= coarsest)


def _blocks(length_px: int, scale_px: float) -> Iterator[tuple[int, int]]:
    step = max(1, int(BLOCK_PX / scale_px))
    yield from ((start, min(start + step, length_px)) for start in range(0, length_px, step))


def _read_averaged(slide: Slide, level: int, box_px: tuple[float, float, float, float], width_px: int, height_px: int) -> Rgb8:
    """The box (left, top, right, bottom; pixels of `level`) averaged into `width_px` x `height_px` pixels."""
    left, top = int(box_px[0]), int(box_px[1])
    level_width_px, level_height_px = slide.level_sizes_px[level]
    right, bottom = min(int(np.ceil(box_px[2])), level_width_px), min(int(np.ceil(box_px[3])), level_height_px)
    downsample = slide.downsamples[level]
    pixels = slide.read(round(left * downsample), round(top * downsample), level, right - left, bottom - top)
    inside = box_px[0] - left, box_px[1] - top, min(box_px[2], right) - left, min(box_px[3], bottom) - top
    return np.asarray(Image.fromarray(pixels).resize((width_px, height_px), Image.Resampling.BOX, box=inside))


def overlay(picture: Rgb8, mask: NDArray[np.bool_]) -> Rgb8:
    """The picture with its tissue outlined and the rest under a veil; its sides are whole multiples of the mask's."""
    tissue = np.asarray(cv2.resize(mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST))
    veiled = np.where(tissue[..., None].astype(bool), picture, (picture * (1 - VEIL) + 255 * VEIL).astype(np.uint8))
    outlines, _ = cv2.findContours(tissue, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.ascontiguousarray(veiled), outlines, -1, OUTLINE, 1 + max(picture.shape) // 700), np.uint8)


def jpeg(picture: Rgb8) -> bytes:
    """The bytes of a JPEG file."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=88, colorsubsampling="444"))


def write_contact_sheets(slides: Sequence[tuple[str, str, Path]], folder: Path) -> None:
    """Write `_contact_sheet.jpg`, and `_contact_sheet_2.jpg` and so on for more slides than one holds; see `contact_sheet`."""
    sheets = [slides[first : first + SHEET_SLIDES] for first in range(0, max(1, len(slides)), SHEET_SLIDES)]
    names = [f"_contact_sheet{f'_{number}' * (number > 1)}.jpg" for number in range(1, len(sheets) + 1)]
    for name, shown in zip(names, sheets, strict=True):
        with atomic_path(folder / name) as part:
            part.write_bytes(contact_sheet(shown))
    for old in set(folder.glob("_contact_sheet*.jpg")) - {folder / name for name in names}:
        old.unlink()


def contact_sheet(slides: Sequence[tuple[str, str, Path]]) -> bytes:
    """A JPEG of many overlays, `SHEET_COLUMNS` a row, from (slide, what is wrong with it, the path of its overlay, if any)."""
    columns = min(SHEET_COLUMNS, max(1, len(slides)))
    rows = max(1, -(-len(slides) // columns))
    sheet = np.full((rows * (SHEET_CELL_PX + SHEET_LABEL_PX), columns * SHEET_CELL_PX, 3), 255, np.uint8)
    for place, (slide, note, path) in enumerate(slides):
        top, left = place // columns * (SHEET_CELL_PX + SHEET_LABEL_PX), place % columns * SHEET_CELL_PX
        cell = sheet[top : top + SHEET_CELL_PX + SHEET_LABEL_PX, left : left + SHEET_CELL_PX]
        _write(cell, slide, SHEET_LABEL_PX - 5, (0, 0, 0))
        if path.is_file():
            small = _fitted(path.read_bytes())
            cell[SHEET_LABEL_PX : SHEET_LABEL_PX + small.shape[0], : small.shape[1]] = small
        for line, words in enumerate(wrap(note, SHEET_LETTERS)):
            _write(cell, words, SHEET_LABEL_PX + 12 + 13 * line, (180, 0, 0))
    return jpeg(sheet)


def _fitted(overlay_jpeg: bytes) -> Rgb8:
    with Image.open(io.BytesIO(overlay_jpeg)) as picture:
        picture.thumbnail((SHEET_CELL_PX - 4, SHEET_CELL_PX - 4), Image.Resampling.BOX)
        return np.asarray(picture.convert("RGB"))


def _write(cell: Rgb8, text: str, baseline_px: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(cell, text, (2, baseline_px), cv2.FONT_HERSHEY_SIMPLEX, 0.34, colour, 1, cv2.LINE_AA)
