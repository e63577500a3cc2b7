"""What the tests of doctor's checks share: programs that print what is wanted, and what a finding must say."""

from pathlib import Path

import pytest

from microtome.findings import Finding


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **printed: str) -> None:
    """Only these programs are on the path; each prints its text."""
    folder.mkdir(exist_ok=True)
    for name, text in printed.items():
        (folder / name).write_text(f"#!/bin/sh\nprintf '%s\\n' '{text}'\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def is_wrong(finding: Finding, what: str, remedy: str) -> None:
    assert (finding.level, what in finding.what, remedy in finding.remedy) == ("wrong", True, True), finding.line()
