"""What Slurm's queue says, also where it says nothing. Scripts stand in for Slurm's commands."""

import os
from pathlib import Path

import pytest

from microtome import slurm_queue
from microtome.errors import UserError


def slurm_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of Slurm that never answer, as when the controller hangs, or that answer so."""
    for name in ("squeue", "scancel"):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_queue, "ANSWER_S", 0.3)


def test_a_controller_that_hangs_is_unknown_and_nothing_is_started_beside_jobs_that_may_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm_that("exec sleep 60", tmp_path, monkeypatch)
    monkeypatch.setattr(slurm_queue, "GONE_S", 1)
    assert slurm_queue.state("7") == (slurm_queue.UNKNOWN, "")
    with pytest.raises(UserError, match=r"Slurm jobs 7 8 were cancelled.*they are still there\. Nothing was started beside them"):
        slurm_queue.end(["7", "8"])
    with pytest.raises(UserError, match=r"Slurm does not answer, so that jobs of an earlier run may still be there"):
        slurm_queue.submitted_from(tmp_path, {"rule_tissue_wildcards_0"})


def test_a_job_that_the_queue_has_forgotten_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm_that("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", tmp_path, monkeypatch)
    assert slurm_queue.state("7") == ("", "")
    slurm_queue.end(["7"])
