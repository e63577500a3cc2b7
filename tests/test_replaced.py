"""A slide that was replaced is told by size and time, or by what it holds where that is known."""

import os
from pathlib import Path

import pytest

from microtome.ledger import source_of
from microtome.replaced import is_replaced, source_now, why


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "a.tiff"
    path.write_bytes(b"as it was seen")
    return path


def test_size_or_time_tell_where_there_is_no_checksum(slide: Path) -> None:
    seen = source_of(slide, checksum=False)
    assert not is_replaced(seen, source_now(slide, seen))
    os.utime(slide, ns=(1, 1))
    assert is_replaced(seen, source_now(slide, seen))
    assert not is_replaced({}, source_now(slide, {})), "nothing was seen"


def test_a_copy_of_the_same_bytes_is_the_same_slide_where_there_is_a_checksum(slide: Path) -> None:
    seen = source_of(slide, checksum=True)
    os.utime(slide, ns=(1, 1))
    assert not is_replaced(seen, source_now(slide, seen))
    slide.write_bytes(b"as it is today")
    assert is_replaced(seen, source_now(slide, seen))


def test_a_slide_that_is_gone_is_not_one_that_was_replaced(slide: Path) -> None:
    seen = source_of(slide, checksum=False)
    slide.unlink()
    assert not is_replaced(seen, source_now(slide, seen))


def test_the_reason_has_both_files_and_the_command(slide: Path) -> None:
    seen = source_of(slide, checksum=False)
    slide.write_bytes(b"another")
    found = why("tiles", seen, source_of(slide, checksum=False), "Make its tiles anew", ["results/tissue/0.parquet"], "all")
    assert found.startswith("not the file that `tiles` saw: expected 14 bytes of 20")
    assert "found 7 bytes of 20" in found
    assert found.endswith(": snakemake --forcerun results/tissue/0.parquet -- all")
