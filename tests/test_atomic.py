"""Files appear whole or not at all, and what killed jobs left is swept."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from microtome.atomic import atomic_path, sweep_parts, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.txt", "before")

    def write_half() -> None:
        with atomic_path(tmp_path / "deep" / "a.txt") as part:
            part.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert (tmp_path / "deep" / "a.txt").read_text() == "before"
    assert names(tmp_path / "deep") == ["a.txt"]


def test_who_reads_while_a_file_is_replaced_goes_on_with_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "before")
    with (tmp_path / "a.txt").open() as reader:
        write_text(tmp_path / "a.txt", "after")
        assert reader.read() == "before"
    assert (tmp_path / "a.txt").read_text() == "after"


def test_nothing_written_is_an_error_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def _killed(path: Path) -> None:
    with atomic_path(path) as part:
        part.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_job_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    """Two jobs that are killed over one file leave a part each."""
    for _ in range(2):
        job = multiprocessing.get_context("fork").Process(target=_killed, args=(tmp_path / "a.tar",))
        job.start()
        job.join()
    sweep_parts(tmp_path, "other.tar")
    assert len(names(tmp_path)) == 2, "of another file"
    (tmp_path / "b.tar").touch()
    (tmp_path / "b.part").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".c.tar.1.part").touch()
    assert len(names(tmp_path)) == 2 + 4
    sweep_parts(tmp_path)
    assert names(tmp_path) == [".hidden", "b.part", "b.tar", "below"]
    assert names(tmp_path / "below") == [".c.tar.1.part"]
    sweep_parts(tmp_path / "not there")
