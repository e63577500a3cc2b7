"""Progress counts what is done, and passes the items on."""

import pytest

from microtome.progress import progress, progress_bar


def test_items_pass_and_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress("abc", 3, "reading", "slide")) == ["a", "b", "c"]
    written = capsys.readouterr().err
    assert "reading" in written
    assert "3/3" in written


def test_a_bar_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(None, "training", "image") as bar:
        bar.update(7)
    assert "7 image" in capsys.readouterr().err
