"""What tests share: the folder of real data, where there is one, and a checkout on which the whole workflow has run."""

import fcntl
import shutil
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.checkout import TWO_PROCESSES, Checkout

# Tests of a file stay on one of pytest-xdist's workers, and these files on one together: they share the cluster, a checkout that they
# change, or a forkserver, whose first user decides what it has imported. They start first, because they take longest.
TOGETHER = {
    "tests/slurm/": "the cluster",
    "tests/test_workflow.py": "the checkout",
    "tests/test_readme.py": "the checkout",
    "tests/test_pretrain.py": "the forkserver",
    "tests/test_pseudo_epoch.py": "the forkserver",
    "tests/test_resume.py": "the forkserver",
}


def group(test: str) -> str:
    """What the tests of one worker have in common: a group of files, or their file."""
    return next((name for start, name in TOGETHER.items() if test.startswith(start)), test.split("::")[0])


class ByGroup(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByGroup:
    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [*TOGETHER.values(), group(item.nodeid)].index(group(item.nodeid)))


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
            checkout.snakemake("all", *TWO_PROCESSES)
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
