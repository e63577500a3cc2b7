"""Tiles read by offset and decoded, against Pillow; damaged ones; and how many files stay open."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microtome.errors import UserError
from microtome.schedule_file import ScheduledTile
from microtome.tile_files import OPEN_FILES, TileFiles, decode_into, read_image
from tests.tile_folder import tile_jpeg

TILE = ScheduledTile("results/tiles/0/a.tar", 7, 512, 999)


def decoded(data: bytes) -> np.ndarray:
    image = np.zeros((32, 32, 3), np.uint8)
    decode_into(image, data, TILE)
    return image


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_odd_jpegs_are_decoded_as_pillow_does(mode: str, progressive: bool) -> None:
    with Image.open(io.BytesIO(tile_jpeg("a", 0, 32))) as drawn:
        data = jpeg(drawn.convert(mode), quality=90, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decoded(data) - expected).max() <= 1


def test_damaged_jpegs_are_refused() -> None:
    data = tile_jpeg("a", 0, 32)
    with pytest.raises(UserError, match="expected a JPEG of 32 x 32 px, found one of 64 x 64 px"):
        decoded(tile_jpeg("a", 0, 64))
    for damaged in (b"", b"GIF89a", data[: len(data) // 2], data[:200] + bytes(100) + data[300:], data[::-1]):
        with pytest.raises(UserError, match=r"tile 7 of slide a .*expected a JPEG of 32 x 32 px"):
            decoded(damaged)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_open_files_are_bounded(tmp_path: Path) -> None:
    files, before = TileFiles(), open_files()
    for number in range(OPEN_FILES + 50):
        (tmp_path / f"{number}.tar").write_bytes(b"abcd")
        assert files.read(ScheduledTile(str(tmp_path / f"{number}.tar"), 0, 1, 2)) == b"bc"
    assert open_files() - before == OPEN_FILES
    files.close()
    assert open_files() == before


def test_a_tile_is_read_at_its_offset(tmp_path: Path) -> None:
    data = tile_jpeg("a", 3, 32)
    (tmp_path / "a.tar").write_bytes(bytes(512) + data + b"more")
    tile = ScheduledTile(str(tmp_path / "a.tar"), 3, 512, len(data))
    files, before = TileFiles(), open_files()
    files.expect(tile)
    assert files.read(tile) == data
    files.expect(tile._replace(tar="nowhere.tar"))  # `read` says it
    assert (read_image(tile, 32) == np.asarray(Image.open(io.BytesIO(data)))).all()
    assert open_files() == before + 1, "a single image leaves nothing open"
    files.close()
    with pytest.raises(UserError, match=r"tile 3 of slide nowhere .*nowhere\.tar\): cannot be opened: No such file or directory"):
        files.read(tile._replace(tar="nowhere.tar"))
    with pytest.raises(UserError, match=rf"expected {len(data)} bytes, found 4 before the end of the file"):
        read_image(tile._replace(offset_b=512 + len(data)), 32)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_image(tile._replace(tar=str(tmp_path)), 32)
