"""The software that is stated is the one that runs, and each module of it is tested."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from microtome import software
from microtome.software import PACKAGES, commit, versions

ROOT = Path(__file__).parents[1]


def test_every_module_is_tested_in_a_file_of_its_name() -> None:
    modules = {path.stem for path in (ROOT / "src" / "microtome").glob("*.py")} - {"__init__"}
    assert len(modules) > 100
    assert modules - {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")} == set()


def test_versions_are_those_that_are_imported() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["microtome"].startswith("0.1.0 (")
    asked = {line.strip().lower() for line in (ROOT / "envs" / "requirements.in").read_text().splitlines()}
    assert {name.lower() for name in PACKAGES} <= asked


def test_the_commit_is_known_in_a_work_tree_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if (ROOT / ".git").exists():
        assert re.fullmatch(r"[0-9a-f]{40}", commit() or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None
    assert "(no git work tree)" in versions()["microtome"]


def test_changes_since_the_commit_are_stated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = tmp_path / "software.py"
    shutil.copy(ROOT / "src/microtome/software.py", module)
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    monkeypatch.setattr(software, "__file__", str(module))
    assert versions()["microtome"] == f"0.1.0 (commit {commit()}, the last that changed its code)"
    module.write_text("# changed")
    assert versions()["microtome"] == f"0.1.0 (commit {commit()}, the last that changed its code; changed since)"
