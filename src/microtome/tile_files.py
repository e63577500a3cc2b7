"""The tiles' bytes and pixels: read from a slide's tar by offset, decoded to RGB. An error names tile, slide, file and offset."""

import io
import os
from collections import OrderedDict
from contextlib import closing, suppress

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from microtome.errors import UserError
from microtome.schedule_file import ScheduledTile

OPEN_FILES = 256  # a process; the usual limit is 1,024
REMEDY = "Make the slide's tiles again; if they were made again since the schedule, raise schedule.version."


class TileFiles:
    """Reads tiles by offset; the tars used last stay open, at most `OPEN_FILES`. Raises UserError where one is not there or too short."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, int] = OrderedDict()

    def expect(self, tile: ScheduledTile) -> None:
        """Have the kernel fetch a tile that is read soon: what is asked for together is fetched at the same time."""
        with suppress(UserError):  # `read` will say it
            os.posix_fadvise(self._descriptor(tile), tile.offset_b, tile.size_b, os.POSIX_FADV_WILLNEED)

    def read(self, tile: ScheduledTile) -> bytes:
        """The JPEG file of a tile."""
        descriptor = self._descriptor(tile)
        try:
            data = os.pread(descriptor, tile.size_b, tile.offset_b)
        except OSError as error:
            raise UserError(f"{tile}: cannot be read: {error.strerror}. {REMEDY}") from None
        if len(data) != tile.size_b:
            raise UserError(f"{tile}: expected {tile.size_b} bytes, found {len(data)} before the end of the file. {REMEDY}")
        return data

    def _descriptor(self, tile: ScheduledTile) -> int:
        if tile.tar not in self._open:
            try:
                self._open[tile.tar] = os.open(tile.tar, os.O_RDONLY)
            except OSError as error:
                raise UserError(f"{tile}: cannot be opened: {error.strerror}. {REMEDY}") from None
            if len(self._open) > OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(tile.tar)
        return self._open[tile.tar]

    def close(self) -> None:
        """Close every file."""
        while self._open:
            os.close(self._open.popitem()[1])


def read_image(tile: ScheduledTile, tile_px: int) -> npt.NDArray[np.uint8]:
    """One tile's pixels, [tile_px, tile_px, 3]. Raises UserError where it cannot be read or decoded."""
    image = np.empty((tile_px, tile_px, 3), np.uint8)
    with closing(TileFiles()) as files:
        decode_into(image, files.read(tile), tile)
    return image


def decode_into(image: npt.NDArray[np.uint8], data: bytes, tile: ScheduledTile) -> None:
    """Decode the JPEG `data` of `tile` into `image` [tile_px, tile_px, 3], RGB.

    Raises:
        UserError: `data` is no whole, sound JPEG of that size.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if (height, width) != image.shape[:2]:
            raise ValueError(f"one of {width} x {height} px")
        if colours in ("CMYK", "YCCK"):  # which simplejpeg does not turn into RGB
            image[:] = np.asarray(Image.open(io.BytesIO(data), formats=["JPEG"]).convert("RGB"))
        else:
            simplejpeg.decode_jpeg(data, "RGB", buffer=image)
    except (ValueError, OSError) as error:
        raise UserError(f"{tile}: expected a JPEG of {image.shape[1]} x {image.shape[0]} px, found {error}. {REMEDY}") from None
