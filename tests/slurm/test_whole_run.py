"""`snakemake --profile slurm all` on a real cluster: the same files as on one machine."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd

from tests.checkout import Checkout


def test_the_same_files_as_on_one_machine(slurm_checkout: Checkout, results: Path) -> None:
    """Byte for byte up to the schedules; after them, two processes of a run add in another order."""
    exact = ["cohort/*.csv", "tissue/*/*.geojson", "tiles/*/*.tar", "tiles/*.arrow", "schedule/*.arrow", "splits/*.csv"]
    compared = 0
    for pattern in exact:
        for path in sorted(results.glob(pattern)):
            other = slurm_checkout.folder / "results" / path.relative_to(results)
            assert path.read_bytes() == other.read_bytes(), path
            compared += 1
    assert compared > 20
    for curve in sorted(results.glob("pretrain/*/*/curve.csv")):
        here, there = pd.read_csv(curve), pd.read_csv(slurm_checkout.folder / "results" / curve.relative_to(results))
        np.testing.assert_allclose(here["loss"], there["loss"], rtol=1e-3)


def test_pretraining_ran_on_two_nodes(slurm_checkout: Checkout) -> None:
    jobs = subprocess.run(
        ["sacct", "--noheader", "--parsable2", "--allocations", "--format", "JobName,NNodes,State"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "microtome-pretrain|2|COMPLETED" in jobs.stdout.splitlines()


def test_a_second_run_has_nothing_to_do(slurm_checkout: Checkout) -> None:
    assert "Nothing to be done" in slurm_checkout.snakemake("all")
