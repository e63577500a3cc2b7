"""What ends a process without a traceback, and with which status."""

import os

import pytest

from microtome.command_line import run
from microtome.errors import STOPPED, StoppedError, UserError


@pytest.mark.parametrize(("error", "status"), [(UserError("no"), "microtome: no"), (StoppedError("saved"), os.EX_TEMPFAIL)])
def test_a_stop_is_told_from_a_mistake(
    error: UserError, status: str | int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rule() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["rule"])
    with pytest.raises(SystemExit) as ended:
        run(rule)
    assert ended.value.code == status  # a text is printed, and the status 1
    assert capsys.readouterr().err == ("microtome: saved\n" if status == STOPPED else "")


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule() -> None:
        raise ValueError("ours")

    monkeypatch.setattr("sys.argv", ["rule"])
    with pytest.raises(ValueError, match="ours"):
        run(rule)
