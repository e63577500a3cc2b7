"""A real Slurm cluster for the tests: they install system packages, so they run where CI=true or MICROTOME_SLURM=1 says so, as root."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.checkout import Checkout, why_no_cluster
from tests.training import drawn_tile, make_schedules

CLUSTER = Path(__file__).parent / "cluster.sh"
LAPTOP = {"tissue": 1, "tiles": 1, "gma": 1, "features": 1, "quality": 1}  # threads: the nodes are all this one machine


@pytest.fixture(scope="session")
def coming_up() -> Iterator["subprocess.Popen[bytes]"]:
    """A cluster that is being installed and started: what it takes a minute for is no work."""
    if reason := why_no_cluster():
        pytest.skip(reason)
    up = subprocess.Popen([CLUSTER, "up"])
    yield up
    up.wait(timeout=300)
    subprocess.run([CLUSTER, "down"], check=True, timeout=120)


@pytest.fixture(scope="session")
def prepared(coming_up: "subprocess.Popen[bytes]", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What trials share, made while the cluster comes up: drawn slides, a schedule of 20 steps, and the tissue of an undisturbed run."""
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def cluster(coming_up: "subprocess.Popen[bytes]", prepared: Path) -> None:
    """Nine nodes: partitions cpu and gpu of four, yielding, preempted, urgent (which preempts) of all; the account pathology."""
    assert coming_up.wait(timeout=300) == 0


def prepare(folder: Path) -> Path:
    """See `prepared`."""
    rng = np.random.default_rng(0)
    make_schedules(folder / "schedule", [drawn_tile(rng, 40) for _ in range(20 * 16)], epochs=1)
    Checkout(folder).snakemake("results/tissue/0.parquet")
    return folder


def fit_to_one_machine(profile: Path) -> None:
    """What a user does: edit the profile. Fewer threads and less memory a job, two nodes without GPUs for pretraining, quicker polling."""
    values = yaml.safe_load(profile.read_text())
    values["set-threads"] = LAPTOP
    values["slurm-init-seconds-before-status-checks"] = 2
    values["max-status-checks-per-second"] = 10
    values["latency-wait"] = 20
    values["jobs"] = 8
    values["default-resources"] |= {"mem_mb": "3000 * attempt", "runtime": 10}
    pretrain = values["set-resources"]["pretrain"]
    values["set-resources"] = {"pretrain": pretrain | {"nodes": 2, "processes": 1, "gpus": 0, "cpus": 1, "mem_mb": 4000, "runtime": 10}}
    profile.write_text(yaml.safe_dump(values))


@pytest.fixture(scope="session")
def run_of_all(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Future[Checkout]"]:
    """`snakemake --profile slurm all` with config/test.yaml, under way: other trials go on beside it, as on any cluster."""
    checkout = Checkout(tmp_path_factory.mktemp("slurm"), profile="slurm")
    fit_to_one_machine(checkout.folder / "profiles" / "slurm" / "config.yaml")

    def run() -> Checkout:
        checkout.snakemake("all")
        return checkout

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run)


@pytest.fixture(scope="session")
def slurm_checkout(run_of_all: "Future[Checkout]") -> Checkout:
    """The project, after that run."""
    return run_of_all.result()
