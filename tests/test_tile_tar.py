"""A slide's tar."""

import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.tile_tar import TileTar, header, tile_name

NAMES = st.text("abcXYZ019_.-", min_size=1, max_size=200)


@settings(deadline=None)
@given(name=NAMES, size_b=st.integers(0, 8**11 - 1))
def test_headers_are_those_of_the_standard_library(name: str, size_b: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size_b
    assert header(name, size_b) == member.tobuf(tarfile.GNU_FORMAT)


def test_tar_unpacks_the_tiles_and_offsets_point_at_them(tmp_path: Path) -> None:
    tiles = {tile_name("s1", 0, 512 * k): bytes([k]) * (500 + 10 * k) for k in range(5)} | {tile_name("s" * 200, 7, 8): b"long"}
    with TileTar(tmp_path / "s1.tar") as tar:
        offsets_b = {name: tar.add(name, data) for name, data in tiles.items()}
    assert tar.size_b == (tmp_path / "s1.tar").stat().st_size
    whole = (tmp_path / "s1.tar").read_bytes()
    for name, data in tiles.items():
        assert offsets_b[name] % 512 == 0
        assert whole[offsets_b[name] : offsets_b[name] + len(data)] == data
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xf", "s1.tar", "-C", "out"], cwd=tmp_path, check=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == tiles


def test_nothing_is_left_of_a_tar_that_broke_half_way(tmp_path: Path) -> None:
    def break_off() -> None:
        with TileTar(tmp_path / "s1.tar") as tar:
            tar.add("a.jpg", b"data")
            raise RuntimeError("the slide cannot be read")

    with pytest.raises(RuntimeError, match="cannot be read"):
        break_off()
    assert list(tmp_path.iterdir()) == []
