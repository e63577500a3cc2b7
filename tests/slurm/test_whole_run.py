"""`snakemake --profile slurm all` on a real cluster: the same files as on one machine."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from tests.checkout import Checkout

# Byte for byte: all up to the schedules that names no time or absolute path, and after them what no training has touched.
EXACT = ["cohort/*", "tissue/*.parquet", "tissue/*/*.geojson", "tissue/*/*.jpg", "tiles/*.parquet", "tiles/*.arrow", "tiles/*/*.arrow"]
EXACT += ["tiles/*/*.tar", "catalog/*", "schedule/*.arrow", "schedule/quota/*", "splits/*.csv", "quality/sample.parquet"]
EXACT += ["features/tres50/*/*.h5", "gma/*/tres50/*", "quality/tres50/*", "quality/*@0/*"]
# Two processes of a run add gradients in another order than one, and training carries the rounding on. Each tolerance is about 40 times the
# largest deviation that was measured (in brackets), for other processors.
CURVE_RTOL = 2e-5  # of each column (5e-7)
FEATURES_TOLERANCE = 1e-4  # of the standard deviation of a slide's features (2.5e-6)
GMA_TOLERANCE = 1e-5  # of probabilities, thresholds, attention, losses (2.4e-7), and AUC (0)
QUALITY_TOLERANCE = 1e-4  # of RankMe, ODCorr and k-NN accuracy, which have six digits (0)


@pytest.fixture(scope="module")
def pairs(slurm_checkout: Checkout, results: Path) -> Callable[[str], list[tuple[Path, Path]]]:
    """The files that match a pattern, here and from the cluster: at least one."""
    there = slurm_checkout.folder / "results"

    def matching(pattern: str) -> list[tuple[Path, Path]]:
        found = [(path, there / path.relative_to(results)) for path in sorted(results.glob(pattern)) if path.is_file()]
        assert found, pattern
        return found

    return matching


Pairs = Callable[[str], list[tuple[Path, Path]]]


def test_the_same_files_as_on_one_machine(slurm_checkout: Checkout, results: Path) -> None:
    there = slurm_checkout.folder / "results"
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) for folder in (results, there)]
    assert len(names[0]) > 200
    assert names[0] == names[1]


@pytest.mark.parametrize("pattern", EXACT)
def test_byte_for_byte(pattern: str, pairs: Pairs) -> None:
    for here, there in pairs(pattern):
        assert here.read_bytes() == there.read_bytes(), here


def test_training_within_its_tolerance(pairs: Pairs) -> None:
    for here, there in pairs("pretrain/*/*/curve.csv"):
        curves = [pd.read_csv(path).drop(columns="images_per_s") for path in (here, there)]
        assert len(curves[0]) > 1
        pd.testing.assert_frame_equal(*curves, rtol=CURVE_RTOL, atol=0)


@pytest.mark.parametrize("pattern", ["features/*/*/*.h5", "quality/*/features.h5"])
def test_features_within_their_tolerance(pattern: str, pairs: Pairs) -> None:
    for here, there in pairs(pattern):
        with h5py.File(here) as one, h5py.File(there) as other:
            assert one.keys() == other.keys()
            features = one["features"][:]
            assert features.size > 1000
            np.testing.assert_allclose(other["features"][:], features, rtol=0, atol=FEATURES_TOLERANCE * features.std(), err_msg=str(here))
            if "coords" in one:
                np.testing.assert_array_equal(other["coords"], one["coords"])


@pytest.mark.parametrize(
    ("pattern", "tolerance"),
    [
        ("gma/*/*/*.parquet", GMA_TOLERANCE),
        ("gma/*/*/runs.csv", GMA_TOLERANCE),
        ("gma/*/*/excluded.csv", 0),
        ("tables/auc.csv", GMA_TOLERANCE),
        ("tables/decisions.csv", GMA_TOLERANCE),
        ("quality/*/measures.csv", QUALITY_TOLERANCE),
        ("tables/quality.csv", QUALITY_TOLERANCE),
    ],
)
def test_tables_within_their_tolerance(pattern: str, tolerance: float, pairs: Pairs) -> None:
    for here, there in pairs(pattern):
        read = pd.read_parquet if here.suffix == ".parquet" else pd.read_csv
        one, other = read(here), read(there)
        assert len(one) or here.name == "excluded.csv", here
        pd.testing.assert_frame_equal(one, other, rtol=0, atol=tolerance, obj=str(here))


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
