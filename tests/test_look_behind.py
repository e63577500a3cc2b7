"""A job behind an ancient() input runs for a reason of its own, though what is before that input runs, too."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.checkout import ROOT, counted

SNAKEFILE = """
from microtome.look_behind import look_behind_ancient
if config["look"]:
    look_behind_ancient()

rule all:
    input: "last.txt", "other.txt"

rule shared:
    input: "table.txt"
    output: "shared.txt"
    shell: "cp {input} {output}"

rule own:
    input: ancient("shared.txt")
    output: "own.txt"
    params: own=config["setting"]
    shell: "echo {params.own} > {output}"

rule last:
    input: "own.txt"
    output: "last.txt"
    shell: "cp {input} {output}"

rule other:
    input: ancient("shared.txt")
    output: "other.txt"
    shell: "cp {input} {output}"
"""


def snakemake_in(folder: Path, *options: str) -> str:
    """What it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workflow that has run, and whose shared table was edited since."""
    folder = tmp_path_factory.mktemp("ancient")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "table.txt").write_text("1")
    snakemake_in(folder, "--config", "look=True", "setting=1")
    (folder / "table.txt").write_text("2")
    os.utime(folder / "table.txt", (time.time() + 5,) * 2)
    return folder


@pytest.mark.parametrize(
    ("look", "setting", "jobs"),
    [
        (True, 1, {"shared": 1, "all": 1}),
        (True, 2, {"shared": 1, "own": 1, "last": 1, "all": 1}),
        (False, 2, {"shared": 1, "all": 1}),  # Snakemake by itself; once it looks, the module is not needed any more
    ],
)
def test_what_runs(made: Path, look: bool, setting: int, jobs: dict[str, int]) -> None:
    found = counted(snakemake_in(made, "--dry-run", "--quiet", "rules", "--config", f"look={look}", f"setting={setting}"))
    assert {"all": 1, **found} == jobs


def test_of_what_is_omitted_all_that_follows_is(made: Path) -> None:
    printed = snakemake_in(made, "--dry-run", "--quiet", "rules", "--omit-from", "shared", "--config", "look=True", "setting=2")
    assert counted(printed) == {}
