"""The fast path: slides whose levels are JPEG tiles in a TIFF (Aperio, Philips, generic), decoded tile by tile without OpenSlide.

libjpeg decodes a JPEG at 1/2, 1/4 or 1/8 of its size from the low frequencies of each 8 x 8 block, which is close to the mean of the pixels
(within a grey level) and lies in the same place. So a plane here is a level at one of these scales; every source tile is decoded once.
Averaged once more, from 259 to 256 pixels say, tiles would be blurred by some grey levels: those are cut from a finer scale (`serves`).
OpenSlide says which levels there are and how large; whatever is unusual is left to it.
"""

import os
from dataclasses import dataclass

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from microtome.planes import LevelPlane, fine_enough, resized
from microtome.slides import Rgb8, Slide, SlideError

VENDORS = ("aperio", "philips", "generic-tiff")
SPARSE_VENDORS = ("philips",)  # leave out the tiles they did not scan; elsewhere a tile without bytes is unusual
SCALES = (8, 4, 2, 1)
MANY = 5  # pixels averaged into one: that they were averages themselves then makes less than a grey level (0.9 at most on real tissue)
MAX_ROWS_B = 3 * 2**29  # decoded rows of source tiles, at most: those of a slide 200,000 px wide, of 512-px tiles, take 0.6 GB
MAX_TILE_B = 64 * 2**20  # a source tile that claims more bytes is damaged
MAX_MEAN_DIFFERENCE = 4.0  # grey levels, of one tile from OpenSlide's pixels: wrong colours or places differ by far more
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
FRAME = b"\xff\xc0\x00\x11\x08"  # a baseline JPEG of three components of 8 bits; height and width follow
ROOM = bytes(4096)  # libjpeg's faster Huffman decoder runs while 3 kB are left, so that something has to follow the JPEG
COLOUR_MARKERS = (b"\xff\xe0", b"\xff\xee")  # JFIF, Adobe: what a tile says about its colours; TIFF has its own say


class Unusual(Exception):
    """The slide is left to OpenSlide; the text is why."""


class UnreadableTile(SlideError):
    """A source tile that cannot be decoded here. `region`: x, y (level-0 pixels), downsample of the level, width, height (its pixels)."""

    def __init__(self, text: str, region: tuple[int, int, float, int, int]) -> None:
        super().__init__(text)
        self.region = region

    def spared_by(self, slide: Slide) -> bool:
        """Whether OpenSlide, which is not as strict on what surrounds the coded pixels, reads what is there."""
        x_px0, y_px0, downsample, width_px, height_px = self.region
        try:
            slide.read(x_px0, y_px0, slide.downsamples.index(downsample), width_px, height_px)
        except SlideError:
            return False
        return True


@dataclass(frozen=True)
class JpegLevel:
    """A level of JPEG tiles; `head` (start, colour marker, tables) goes before each tile's bytes without their own start."""

    size_px: tuple[int, int]
    tile_px: tuple[int, int]
    columns: int  # of tiles
    offsets_b: NDArray[np.int64]
    sizes_b: NDArray[np.int64]
    head: bytes
    downsample: float


def jpeg_levels(slide: Slide) -> list[JpegLevel]:
    """The slide's levels as JPEG tiles.

    Raises:
        Unusual: it is not a TIFF whose every level is JPEG tiles of 8-bit RGB or YCbCr.
    """
    if slide.vendor not in VENDORS:
        raise Unusual(f"{slide.vendor} slides are not JPEG tiles in a TIFF")
    try:
        with tifffile.TiffFile(slide.path) as file:
            pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage) and page.is_tiled]
            return [_level(_page_of(pages, slide, level), slide, level) for level in range(len(slide.downsamples))]
    except (tifffile.TiffFileError, OSError, ValueError, TypeError, KeyError, IndexError, ArithmeticError) as error:
        raise Unusual(f"its TIFF tags are unusual: {error}") from error


def _page_of(pages: list[tifffile.TiffPage], slide: Slide, level: int) -> tifffile.TiffPage:
    """The page of a level: of its size, or (Philips pads levels to whole tiles) larger by less than a tile."""
    width, height = slide.level_sizes_px[level]
    fitting = [p for p in pages if 0 <= p.imagewidth - width < p.tilewidth and 0 <= p.imagelength - height < p.tilelength]
    exact = [page for page in fitting if (page.imagewidth, page.imagelength) == (width, height)]
    found = exact or (fitting if slide.vendor == "philips" else [])
    if len(found) != 1:
        raise Unusual(f"{len(found)} tiled TIFF pages have the size of level {level}")
    return found[0]


def _level(page: tifffile.TiffPage, slide: Slide, level: int) -> JpegLevel:
    if page.compression != tifffile.COMPRESSION.JPEG:
        raise Unusual(f"level {level} is not JPEG but {tifffile.COMPRESSION(page.compression).name}")
    if page.photometric not in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR):
        raise Unusual(f"level {level} is coded as {tifffile.PHOTOMETRIC(page.photometric).name}")
    if (page.samplesperpixel, page.bitspersample, page.planarconfig) != (3, 8, tifffile.PLANARCONFIG.CONTIG):
        raise Unusual(f"level {level} is not of three interleaved 8-bit samples")
    columns, rows = -(-page.imagewidth // page.tilewidth), -(-page.imagelength // page.tilelength)
    offsets_b, sizes_b = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
    if not len(offsets_b) == len(sizes_b) == columns * rows:
        raise Unusual(f"level {level} lists {len(offsets_b)} tiles, {columns} x {rows} expected")
    if slide.vendor not in SPARSE_VENDORS and not sizes_b.all():
        raise Unusual(f"level {level} has tiles without bytes")
    tables = (page.jpegtables or SOI + EOI)[len(SOI) : -len(EOI)]
    head = SOI + _adobe_marker(page.photometric == tifffile.PHOTOMETRIC.YCBCR) + tables
    tile_px = page.tilewidth, page.tilelength
    return JpegLevel(slide.level_sizes_px[level], tile_px, columns, offsets_b, sizes_b, head, slide.downsamples[level])


def _adobe_marker(ycbcr: bool) -> bytes:
    """The marker that tells a decoder the colour coding, which TIFF keeps in a tag: YCbCr or RGB."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([ycbcr])


def tables_begin(tile: bytes) -> int:
    """Where a tile's own tables begin, behind its start and what it says of its colours. Raises ValueError where `tile` is no JPEG."""
    if tile[:2] != SOI:
        raise ValueError(f"not a JPEG: starts with {tile[:2].hex(' ') or 'nothing'}")
    at = 2
    while tile[at : at + 2] in COLOUR_MARKERS:
        at += 2 + int.from_bytes(tile[at + 2 : at + 4])
    return at


class JpegPlane:
    """A level at 1/`scale` of its size; its pixels are `downsample` level-0 pixels wide."""

    def __init__(self, descriptor: int, level: JpegLevel, scale: int) -> None:
        self.level, self.scale = level, scale
        self.downsample, self.level_downsample = level.downsample * scale, level.downsample
        self.size_px = level.size_px[0] // scale, level.size_px[1] // scale
        self.tile_px = level.tile_px[0] // scale, level.tile_px[1] // scale
        self._descriptor, self._sound_start = descriptor, bytes(1)
        self._start, self._begin = bytes(1), 0  # how the last tile started, and where its tables began: most are alike
        self._piece, self._piece_at_b = b"", 0  # of the file, as it was read last
        self._offsets_b, self._sizes_b = level.offsets_b.tolist(), level.sizes_b.tolist()  # single numbers are faster from lists
        self._rows: dict[int, tuple[Rgb8, set[int]]] = {}  # of source tiles, and which of them are decoded
        self._spare: list[Rgb8] = []  # the memory of rows that are done with

    def read(self, x_px: int, y_px: int, side_px: int) -> Rgb8:
        """The square region [side_px, side_px, 3] at (x_px, y_px). Read row by row, regions decode each source tile once."""
        return self.region(x_px, y_px, side_px, side_px)

    def region(self, x_px: int, y_px: int, width_px: int, height_px: int) -> Rgb8:
        """The region [height_px, width_px, 3] at (x_px, y_px)."""
        region = np.empty((height_px, width_px, 3), np.uint8)
        rows, columns = _pieces(y_px, height_px, self.tile_px[1]), _pieces(x_px, width_px, self.tile_px[0])
        self._forget_all_but([row for row, _, _ in rows])
        for row, from_y, to_y in rows:
            pixels = self._row(row, [column for column, _, _ in columns])
            for column, from_x, to_x in columns:
                region[to_y, to_x] = pixels[column, from_y, from_x]
        return region

    def _forget_all_but(self, rows: list[int]) -> None:
        for row in [known for known in self._rows if known not in rows]:
            self._spare.append(self._rows.pop(row)[0])

    def _row(self, row: int, columns: list[int]) -> Rgb8:
        """A row of source tiles [columns, height, width, 3], of which `columns` are decoded."""
        if row not in self._rows:
            width, height = self.tile_px
            self._rows[row] = self._spare.pop() if self._spare else np.empty((self.level.columns, height, width, 3), np.uint8), set()
        pixels, decoded = self._rows[row]
        for column in columns:
            if column not in decoded:
                jpeg = self.source_jpeg(row, column)
                if jpeg is None:
                    pixels[column] = 255
                else:
                    self._decode(jpeg, row, column)
                decoded.add(column)
        return pixels

    def source_jpeg(self, row: int, column: int, ahead_b: int = 0) -> bytes | None:
        """A source tile as a JPEG file, its coded pixels untouched; None where it was not scanned.

        `ahead_b` bytes are read at once: those who want the tiles of a row one by one mostly find the next ones in them.

        Raises:
            SlideError: its bytes are not there, or no JPEG.
        """
        number = row * self.level.columns + column
        size_b, offset_b = self._sizes_b[number], self._offsets_b[number]
        if size_b == 0:
            return None
        if size_b > MAX_TILE_B:
            raise self._unreadable(row, column, f"it claims {size_b} bytes")
        at = offset_b - self._piece_at_b
        if not 0 <= at <= len(self._piece) - size_b:
            self._piece, self._piece_at_b, at = os.pread(self._descriptor, max(size_b, ahead_b), offset_b), offset_b, 0
            if len(self._piece) < size_b:
                raise self._unreadable(row, column, f"{len(self._piece)} of its {size_b} bytes at {offset_b} are in the file")
        if not self._piece.startswith(self._start, at, at + size_b):
            data = self._piece[at : at + size_b]
            try:
                self._begin = tables_begin(data)
            except ValueError as error:
                raise self._unreadable(row, column, str(error)) from error
            self._start = data[: self._begin + len(SOI)]
        return self.level.head + self._piece[at + self._begin : at + size_b]

    def check_size(self, jpeg: bytes, row: int, column: int) -> None:
        """Raise SlideError unless the JPEG's header can be read and states the size of a source tile."""
        if jpeg.startswith(self._sound_start):
            return
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
        except ValueError as error:
            raise self._unreadable(row, column, str(error)) from error
        if (width, height) != self.level.tile_px:
            raise self._unreadable(row, column, f"it is {width} x {height} px")
        frame = FRAME + height.to_bytes(2) + width.to_bytes(2)
        at = jpeg.find(frame)
        self._sound_start = jpeg[: at + len(frame)] if at > 0 else jpeg  # tiles that begin like this need no look

    def _decode(self, jpeg: bytes, row: int, column: int) -> None:
        """Decode a source tile into its place. That buffer keeps a file that claims to be huge from taking memory."""
        (width, height), place = self.tile_px, self._rows[row][0][column]
        try:
            decoded = simplejpeg.decode_jpeg(jpeg + ROOM, "RGB", min_height=height, min_width=width, buffer=place)
        except ValueError as error:
            raise self._unreadable(row, column, str(error)) from error
        if decoded.shape != place.shape:
            raise self._unreadable(row, column, f"it is {decoded.shape[1]} x {decoded.shape[0]} px, not {width} x {height}")

    def _unreadable(self, row: int, column: int, why: str) -> UnreadableTile:
        (width_px, height_px), downsample = self.level.tile_px, self.level.downsample
        x_px0, y_px0 = round(column * width_px * downsample), round(row * height_px * downsample)
        sides_px = min(width_px, self.level.size_px[0] - column * width_px), min(height_px, self.level.size_px[1] - row * height_px)
        text = f"cannot read the JPEG tile at ({x_px0}, {y_px0}) of the level with downsample {downsample:g}: {why}"
        return UnreadableTile(text, (x_px0, y_px0, downsample, *sides_px))


def _pieces(at_px: int, side_px: int, tile_px: int) -> list[tuple[int, slice, slice]]:
    """Along one axis, the source tiles under a region: their number, which of their pixels, and which of the region's these are."""
    pieces = []
    for number in range(at_px // tile_px, (at_px + side_px - 1) // tile_px + 1):
        begin, end = max(number * tile_px, at_px), min((number + 1) * tile_px, at_px + side_px)
        pieces.append((number, slice(begin - number * tile_px, end - number * tile_px), slice(begin - at_px, end - at_px)))
    return pieces


def jpeg_plane(slide: Slide, descriptor: int, tile_px0: float, tile_px: int) -> JpegPlane:
    """The coarsest level and scale at which a tile still covers `tile_px` whole pixels; `descriptor` is the slide's open file.

    Raises:
        Unusual: why the slide has to be read by OpenSlide.
    """
    levels = jpeg_levels(slide)
    candidates = [(level, scale) for level in levels for scale in SCALES if not (level.tile_px[0] % scale or level.tile_px[1] % scale)]
    fine = [(level, scale) for level, scale in candidates if serves(level, scale, tile_px0, tile_px)]
    level, scale = max(fine, key=lambda pair: (pair[0].downsample * pair[1], -pair[1]), default=(levels[0], 1))
    needed_b = rows_b(level, scale, round(tile_px0 / level.downsample / scale))
    if needed_b > MAX_ROWS_B:
        raise Unusual(f"{needed_b / 1e9:.1f} GB of its JPEG tiles would have to be kept")
    return JpegPlane(descriptor, level, scale)


def serves(level: JpegLevel, scale: int, tile_px0: float, tile_px: int) -> bool:
    """Whether a level at 1/`scale` has the pixels for a tile: enough of them, and a whole multiple where they are averages (or `MANY`)."""
    if not fine_enough(level.downsample * scale, tile_px0, tile_px):
        return False
    side_px = round(tile_px0 / level.downsample / scale)
    return scale == 1 or side_px % tile_px == 0 or side_px >= MANY * tile_px


def rows_b(level: JpegLevel, scale: int, side_px: int) -> int:
    """Bytes of the decoded rows of source tiles that a region of a plane can touch."""
    width, height = (side // scale for side in level.tile_px)
    return (-(-side_px // height) + 1) * height * level.columns * width * 3


def check_agreement(plane: JpegPlane, slide: Slide, x_px: int, y_px: int, side_px: int) -> None:
    """Compare one tile with what OpenSlide reads there.

    Raises:
        Unusual: colours or places differ, or OpenSlide alone can read it.
        SlideError: the tile cannot be read.
    """
    level = slide.downsamples.index(plane.level.downsample)
    try:
        ours = plane.read(x_px, y_px, side_px)
    except UnreadableTile as error:
        if error.spared_by(slide):
            raise Unusual(str(error)) from error
        raise
    theirs = LevelPlane(slide, level).read(x_px * plane.scale, y_px * plane.scale, side_px * plane.scale)
    difference = float(np.abs(ours.astype(np.int16) - resized(theirs, side_px)).mean())
    if difference > MAX_MEAN_DIFFERENCE:
        raise Unusual(f"its JPEG tiles differ from what OpenSlide reads by {difference:.1f} grey levels")
