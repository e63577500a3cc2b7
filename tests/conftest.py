"""What tests share: the folder of real data, where there is one, and a checkout on which the whole workflow has run."""

from pathlib import Path

import pytest

from tests.checkout import Checkout


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real slides, tiles and a MIL benchmark, which are not part of the project."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The project, after `snakemake all` with config/test.yaml on this machine."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    checkout.snakemake("all")
    return checkout
