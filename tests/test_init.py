"""A project in a folder of its own: the published command works in it as it stands, and nothing of it lands in the installation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from microtome.errors import UserError
from microtome.init import HOME, init


def snakemake(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(["snakemake", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_new_project_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "breast cohort"  # a space must not hurt
    init(folder)
    said = capsys.readouterr().out
    assert f"cd '{folder}'\n" in said
    assert "  snakemake --profile slurm all\n" in said
    plan = subprocess.run(["make", "plan", "PROFILE=slurm"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "Plan for 4 slides" in plan
    assert "cohort.shards 64: of 4 slides, 1 would do." in plan
    larger = subprocess.run(["make", "plan", "SLIDES=500"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "Plan for 500 slides" in larger
    planned = snakemake(folder, "--profile", "slurm", "-n", "--quiet", "rules", "--", "all")
    assert "cohort" in planned
    assert "tiles                    64" in planned
    snakemake(folder, "--profile", "profiles/local", "--", "results/cohort/slides.parquet")
    assert (folder / "results/cohort/attrition.csv").read_text().splitlines()[1] == "slide table,4,3"
    assert (folder / "logs/cohort/cohort.log").is_file()


def test_only_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty: it has notes.txt. Expected an empty folder"):
        init(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        init(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_its_files_are_the_installations(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    init(tmp_path / "empty")
    for name in (
        "config/config.yaml",
        "config/opal2024.yaml",
        "config/slides.csv",
        "config/tasks/example.csv",
        "slurm/config.yaml",
        "profiles/local/config.yaml",
    ):
        assert (tmp_path / "empty" / name).read_text() == (HOME / name).read_text()
