"""`snakemake --profile slurm all` on a real cluster: the same bytes as on one machine, from two fresh checkouts."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch

from microtome.checkpoint import load_state
from tests.checkout import Checkout

# Not the same bytes, because they say when, where or how fast: what was read of each slide, curves, what training goes on from, the report.
TOLD_APART = (
    "tissue/*/[!_]*.json",
    "tiles/*/[!_]*.json",
    "pretrain/*/*/curve.csv",
    "pretrain/*/*/state.pt",
    "pretrain/*/*/work/*",
    "report.html",
)


@pytest.fixture(scope="module")
def there(slurm_checkout: Checkout) -> Path:
    return slurm_checkout.folder / "results"


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_the_same_files_as_on_one_machine(results: Path, there: Path) -> None:
    assert len(files(results)) > 200
    assert files(results) == files(there)


def test_byte_for_byte(results: Path, there: Path) -> None:
    """Tiles, schedules, encoders, features, AUC, figures, tables: the same number of processes gives the same sums."""
    exact = {path for path in files(results) if not any(path.match(pattern) for pattern in TOLD_APART)}
    assert len(exact) > 180
    folders = {path.parts[0] for path in exact}
    assert {"tiles", "schedule", "pretrain", "features", "quality", "gma", "figures", "tables"} <= folders
    assert [path for path in sorted(exact) if (results / path).read_bytes() != (there / path).read_bytes()] == []


def test_slides_have_the_same_rows(results: Path, there: Path) -> None:
    slides = [path.relative_to(results) for stage in ("tissue", "tiles") for path in results.glob(f"{stage}/*/[!_]*.json")]
    assert len(slides) > 15
    for path in slides:
        one, other = (json.loads((folder / path).read_text()) for folder in (results, there))
        assert one["row"] == other["row"], path


def test_training_is_the_same_but_for_its_speed(results: Path, there: Path) -> None:
    epochs = sorted(path.parent.relative_to(results) for path in results.glob("pretrain/*/*/state.pt"))
    assert len(epochs) == 3
    for epoch in epochs:
        curves = [pd.read_csv(folder / epoch / "curve.csv").drop(columns="images_per_s") for folder in (results, there)]
        assert len(curves[0]) > 1
        pd.testing.assert_frame_equal(*curves, check_exact=True)
        one, other = (load_state(folder / epoch / "state.pt")["algorithm"] for folder in (results, there))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_pretraining_ran_on_two_nodes(slurm_checkout: Checkout) -> None:
    """The jobs of this run, by their logs: two pseudo-epochs of dino_tiny, one of mae_tiny."""
    ids = {path.name.split("_")[0] for path in slurm_checkout.folder.glob("logs/slurm/pretrain/*/*/*_submitted.pkl")}
    assert len(ids) == 3
    asked = ["--jobs", ",".join(ids), "--format", "JobID,JobName,NNodes,State,WorkDir"]
    command = ["sacct", "--noheader", "--parsable2", "--allocations", *asked]
    jobs = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(jobs) == sorted(f"{job}|microtome-pretrain|2|COMPLETED|{slurm_checkout.folder}" for job in ids)


def test_a_second_run_has_nothing_to_do(slurm_checkout: Checkout) -> None:
    assert "Nothing to be done" in slurm_checkout.snakemake("all")
