"""What checks found, on one line each, and programs that answer, refuse, or hang."""

import sys
from pathlib import Path

import pytest

from microtome import findings
from microtome.findings import Finding, ask, some


def test_a_finding_is_one_line_however_it_was_said() -> None:
    assert Finding("ok", "all is well").line() == "ok       all is well"
    assert Finding("wrong", "no\n  such\tfile", "make one").line() == "wrong    no such file -> make one"
    starts = {Finding(level, "x").line().index("x") for level in ("ok", "warning", "wrong")}
    assert starts == {9}  # they stand below each other


def test_a_programs_answer() -> None:
    assert ask(sys.executable, "-c", "print('a b')") == "a b\n"
    assert ask(sys.executable, "-c", "print('half'); raise SystemExit(3)") is None
    assert ask("no-such-program", "--version") is None


def test_a_file_that_is_no_program_of_this_machine(tmp_path: Path) -> None:
    program = tmp_path / "sinfo"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    assert ask(str(program)) is None


def test_a_program_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "PATIENCE_S", 0.2)
    assert ask("sleep", "60") is None


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, ""), (1, "n0"), (3, "n0, n1, n2"), (4, "n0, n1, n2 and 1 more"), (2003, "n0, n1, n2 and 2,000 more")],
)
def test_some_of_many_names(count: int, expected: str) -> None:
    assert some([f"n{i}" for i in range(count)]) == expected
