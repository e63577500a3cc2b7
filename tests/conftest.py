"""What tests share: the folder of real data, where there is one, and a checkout on which the whole workflow has run."""

import fcntl
import shutil
from pathlib import Path

import pytest

from tests.checkout import Checkout

# Tests that share a checkout or the cluster stay on one of pytest-xdist's workers, and start first: they take longest.
GROUPS = {"cluster": "slurm", "checkout": "workflow"}


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in a hook of the same name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def group(item: pytest.Item) -> int:
        found = [name for fixture, name in GROUPS.items() if fixture in getattr(item, "fixturenames", ())]
        for name in found[:1]:
            item.add_marker(pytest.mark.xdist_group(name))
        return list(GROUPS.values()).index(found[0]) if found else len(GROUPS)

    items.sort(key=group)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real slides, tiles and a MIL benchmark, which are not part of the project."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with `checkout`, on which `snakemake all` has run with config/test.yaml, and `results`, a copy of what it made.

    One for all workers: the first that asks makes it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "whole_run"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "results").exists():
            shutil.rmtree(folder / "checkout", ignore_errors=True)
            checkout = Checkout(folder / "checkout")
            checkout.snakemake("all")
            shutil.copytree(checkout.folder / "results", folder / "results")
    return folder


@pytest.fixture(scope="session")
def checkout(whole_run: Path) -> Checkout:
    """The project after `snakemake all`; its tests may change it, one after another on one worker."""
    return Checkout(whole_run / "checkout", made=True)


@pytest.fixture(scope="session")
def results(whole_run: Path) -> Path:
    """What `snakemake all` made with config/test.yaml on this machine: not to be changed."""
    return whole_run / "results"
