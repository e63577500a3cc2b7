"""A slide's tiles as one plain tar of JPEG files, written in one pass, and where each tile's bytes lie in it.

`tar xf` gives files named `<slide>_x<x_px0>_y<y_px0>.jpg`. Headers carry no clock, user or machine: the same tiles give the same bytes.
A tile's data begin at a multiple of 512 bytes.
"""

import os
import tarfile
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import adler32

from microtome.atomic import atomic_path

BLOCK_B = 512
NAME_B = 100  # a longer name takes extra blocks before the header
END = bytes(2 * BLOCK_B)
PADDING = [bytes(-size_b % BLOCK_B) for size_b in range(BLOCK_B)]
BATCH = 384  # pieces, three a tile, that are written in one call: a call a tile would cost more than copying it


def tile_name(slide: str, x_px0: int, y_px0: int) -> str:
    """The file name of a tile in its slide's tar."""
    return f"{slide}_x{x_px0}_y{y_px0}.jpg"


def _header(name: str, size_b: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size_b
    return member.tobuf(tarfile.GNU_FORMAT)


TEMPLATE = _header("", 0)
BEFORE_SIZE, BEFORE_CHECKSUM, REST = TEMPLATE[NAME_B:124], TEMPLATE[135:148], TEMPLATE[156:]
CHECKSUM = sum(TEMPLATE) - sum(TEMPLATE[148:156]) + 8 * ord(" ") - 11 * ord("0")  # without name, size and checksum


def header(name: str, size_b: int) -> bytes:
    """The tar header of a file, as the standard library writes it, ten times faster for names of up to 100 characters."""
    encoded = name.encode()
    if len(encoded) > NAME_B:
        return _header(name, size_b)
    size = b"%011o" % size_b
    checksum = b"%06o\0 " % (CHECKSUM + (adler32(encoded + size) & 0xFFFF) - 1)  # its low half is 1 + the sum of so few bytes
    return b"".join((encoded.ljust(NAME_B, b"\0"), BEFORE_SIZE, size, BEFORE_CHECKSUM, checksum, REST))


class TileTar:
    """Writes a slide's tar; it appears under its name when the `with` block ends without an error."""

    def __init__(self, path: Path) -> None:
        self._atomic = atomic_path(path)
        self.size_b = self._written_b = 0
        self._waiting: list[bytes] = []

    def __enter__(self) -> Self:
        self._file = self._atomic.__enter__().open("wb")
        return self

    def add(self, name: str, data: bytes) -> int:
        """Append a file; returns the offset of its first byte."""
        head = header(name, len(data))
        offset_b = self.size_b + len(head)
        padding = PADDING[len(data) % BLOCK_B]
        self._waiting += (head, data, padding)
        self.size_b = offset_b + len(data) + len(padding)
        if len(self._waiting) > BATCH:
            self._flush()
        return offset_b

    def _flush(self) -> None:
        written_b = os.writev(self._file.fileno(), self._waiting)
        if written_b < self.size_b - self._written_b:  # as where the disk is full: this raises, then
            self._file.write(b"".join(self._waiting)[written_b:])
            self._file.flush()
        self._waiting.clear()
        self._written_b = self.size_b

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._waiting.append(END)
                self.size_b += len(END)
                self._flush()
            self._file.close()
        except OSError as failure:
            self._atomic.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._atomic.__exit__(kind, error, trace)
