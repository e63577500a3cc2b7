"""Flags come from a function's signature, and a user's mistake ends without a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from microtome.command_line import parser_of
from microtome.config import Splits
from microtome.settings import SplitsSettings

SETTINGS = SplitsSettings(seed=1, splits=Splits(repeats=2, train_fraction=0.5, group="patient"))


def rule(
    tables: list[Path], out: Path, limit: float, compiled: bool, settings: SplitsSettings, extra: list[Path], mask: Path | None = None
) -> None:
    """A rule."""


def parse(*flags: str) -> dict[str, object]:
    return vars(parser_of(rule).parse_args(flags))


def test_flags_follow_the_signature() -> None:
    required = ["--tables", "a", "b", "--out", "c", "--limit", "0.5", "--compiled", "False", "--settings", SETTINGS.json_text()]
    found = parse(*required, "--extra", "d")
    assert found["tables"] == [Path("a"), Path("b")]
    assert found["compiled"] is False
    assert found["limit"] == 0.5
    assert found["settings"] == SETTINGS
    assert found["mask"] is None
    assert parse(*required, "--extra", "d", "--mask", "e")["mask"] == Path("e")


def test_a_missing_flag_is_an_error() -> None:
    with pytest.raises(SystemExit):
        parse("--tables", "a")


def test_a_users_mistake_ends_without_a_traceback(tmp_path: Path) -> None:
    flags = ["--task", str(tmp_path / "none.csv"), "--slides", "x", "--splits", str(tmp_path / "out.csv")]
    command = [sys.executable, "-m", "microtome.splits", *flags, "--settings", SETTINGS.json_text()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("microtome: ")
    assert "no such task table" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    flags = ["--task", "x", "--slides", "x", "--splits", "x", "--settings", '{"seed": 1}']
    done = subprocess.run([sys.executable, "-m", "microtome.splits", *flags], capture_output=True, text=True, check=False)
    assert "splits: missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_garbage_is_left_alone_while_a_job_is_imported_and_never_else() -> None:
    job = "sys.argv = ['-m']; import microtome; assert not gc.isenabled(); sys.argv = ['job']; from microtome.command_line import run"
    library = "import microtome"
    for way in (f"{job}; run(lambda: None)", library):
        subprocess.run([sys.executable, "-c", f"import gc, sys; {way}; assert gc.isenabled()"], check=True)
