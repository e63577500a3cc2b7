"""Checks of a cluster find what they are there for. Scripts stand in for what Slurm's programs print."""

from pathlib import Path

import pytest

from microtome import slurm_checks
from microtome.project import Profile
from tests.checkout import ROOT
from tests.doctor_checks import is_wrong, programs

SLURM = {
    "sinfo": "cpu*|1-00:00:00|(null)|8|16000\ncpu|infinite|(null)|64|256000\ngpu|2-00:00:00|gpu:a100:8(S:0-1)|128|1000000",
    "sacctmgr": "pathology\nother",
    "scontrol": "MinJobAge               = 300 sec\nPartitionName=cpu AllowGroups=ALL PreemptMode=REQUEUE State=UP\n"
    "PartitionName=gpu AllowGroups=ALL PreemptMode=OFF State=UP\nPartitionName=scavenge AllowGroups=ALL PreemptMode=CANCEL State=UP",
}


SLURM_CHECKS = (slurm_checks.partitions, slurm_checks.preemption, slurm_checks.accounts, slurm_checks.job_age)


@pytest.fixture
def profile() -> Profile:
    return Profile(ROOT / "profiles" / "slurm" / "config.yaml")


def test_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    programs(tmp_path, monkeypatch, **SLURM)
    assert [check(profile).level for check in SLURM_CHECKS] == ["ok"] * 4
    programs(tmp_path, monkeypatch, sinfo="batch|infinite|(null)|8|16000", sacctmgr="lab", scontrol="MinJobAge = 30 sec")
    is_wrong(slurm_checks.partitions(profile), "pretrain: no partition 'gpu'", "lines marked EDIT")
    is_wrong(slurm_checks.accounts(profile), "not yours: pathology", "yours: lab")
    is_wrong(slurm_checks.job_age(profile), "MinJobAge of the cluster is 30 s", "status-checks to 10")
    programs(tmp_path, monkeypatch, sinfo="cpu|04:00:00|(null)|64|256000\ngpu|infinite|(null)|64|256000")
    found = slurm_checks.partitions(profile)
    is_wrong(found, "tiles: 720 minutes, partition cpu ends jobs after 240", "EDIT")
    assert "gma: partition gpu has no GPUs" in found.what


def test_jobs_that_fit_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    programs(tmp_path, monkeypatch, sinfo="cpu|infinite|(null)|8|64000\ncpu|infinite|(null)|64|16000\ngpu|infinite|gpu:8|64|512000")
    found = slurm_checks.partitions(profile)
    is_wrong(found, "tiles: 16 cores and 32,000 MB on a node, the largest of partition cpu has 64 and 16,000 MB", "`set-threads`")
    assert "pretrain: 128 cores and 128,000 MB on a node, the largest of partition gpu has 64 and 512,000 MB" in found.what
    assert "tissue" not in found.what  # 8 cores and 16,000 MB


def test_without_slurm_its_checks_warn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    programs(tmp_path / "empty", monkeypatch)
    assert [check(profile).level for check in SLURM_CHECKS] == ["warning"] * 4


def test_a_partition_that_cancels_what_it_preempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    programs(tmp_path, monkeypatch, scontrol=SLURM["scontrol"].replace("PreemptMode=OFF", "PreemptMode=GANG,CANCEL"))
    found = slurm_checks.preemption(profile)
    assert (found.level, found.what) == ("warning", "PreemptMode=CANCEL in partition gpu")  # not scavenge, which the profile does not name
    assert "lines marked EDIT" in found.remedy


@pytest.mark.parametrize(
    ("limit", "expected"), [("infinite", float("inf")), ("2-01:30:00", 2 * 1440 + 90), ("04:00:00", 240), ("30:00", 30)]
)
def test_slurms_time_limits(limit: str, expected: float) -> None:
    assert slurm_checks.minutes(limit) == expected


def test_slurm_that_forgets_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    """man slurm.conf: a MinJobAge of zero prevents any job record purging."""
    programs(tmp_path, monkeypatch, scontrol="MinJobAge               = 0 sec")
    assert slurm_checks.job_age(profile).line() == "ok       Slurm remembers ended jobs for ever"
