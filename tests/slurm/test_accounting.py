"""The profile on a cluster that keeps no accounting: the account is left empty, and the queue alone says how jobs end."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.conftest import CLUSTER
from tests.slurm.test_troubles import cancelled
from tests.slurm.training_troubles import launch
from tests.slurm.trial import Trial


@pytest.fixture
def no_accounting(cluster: None) -> Iterator[None]:
    try:
        subprocess.run([CLUSTER, "accounting", "off"], check=True, timeout=120)
        yield
    finally:
        subprocess.run([CLUSTER, "accounting", "on"], check=True, timeout=120)


def test_without_accounting(no_accounting: None, prepared: Path, tmp_path: Path) -> None:
    """A job that is cancelled is noticed, the same command finishes; pretraining runs."""
    assert "accounting storage is disabled" in subprocess.run(["sacct"], capture_output=True, text=True, check=False).stderr
    launcher = launch(Trial(tmp_path / "pretraining", prepared), tmp_path / "pretrained", nodes=2, account="")
    cancelled(tmp_path / "cancelled", prepared, slurm_account="")
    assert launcher.end() == 0, launcher.said
    assert (tmp_path / "pretrained/encoder.safetensors").is_file()
