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


def test_each_state_of_the_manual_is_over_or_alive() -> None:
    """JOB STATE CODES of man squeue: those of jobs that write no more, unless Slurm requeues them; that wait; and all others."""
    over = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"}
    waiting = {"CONFIGURING", "PENDING", "REQUEUE_FED", "REQUEUED", "RESIZING", "STOPPED", "SUSPENDED"}
    held = {"RESV_DEL_HOLD", "REQUEUE_HOLD", "SPECIAL_EXIT"}
    assert waiting | held == slurm_queue.WAITING
    assert waiting | held | {"COMPLETING", "RUNNING", "SIGNALING", "STAGE_OUT", slurm_queue.UNKNOWN} == slurm_queue.ALIVE
    assert not slurm_queue.ALIVE & over


def test_a_state_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm_that('echo "PENDING|Resources"; echo "$@" > asked', tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert slurm_queue.state("7") == ("PENDING", "Resources")
    assert (tmp_path / "asked").read_text() == "--noheader --states=all --jobs 7 --format %T|%r\n"
    slurm_that("echo 'Unable to contact slurm controller' >&2; exit 1", tmp_path, monkeypatch)
    assert slurm_queue.state("7") == (slurm_queue.UNKNOWN, "")


def test_jobs_that_were_left_are_those_of_this_folder_with_these_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, link = tmp_path / "here", tmp_path / "link"
    here.mkdir()
    link.symlink_to(here)
    jobs = [f"1|RUNNING|{here}|a", f"2|COMPLETED|{here}|a", f"3|PENDING|{link}|b|c", f"4|RUNNING|{tmp_path}|a", f"5|RUNNING|{here}|(null)"]
    slurm_that("".join(f"echo '{job}';" for job in jobs), tmp_path, monkeypatch)
    assert slurm_queue.submitted_from(here, {"a", "b|c"}) == ["1", "3"]
    assert slurm_queue.submitted_from(here, set()) == []
    slurm_that("true", tmp_path, monkeypatch)
    assert slurm_queue.submitted_from(here, {"a"}) == []


def test_jobs_are_cancelled_once_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm_that("", tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm_queue, "POLL_S", 0.01)
    words = "if [ ! -f cancelled ]; then echo RUNNING; elif [ ! -f gone ]; then echo COMPLETING; touch gone; else echo CANCELLED; fi"
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{words}\n")
    (tmp_path / "scancel").write_text('#!/bin/sh\necho "$@" >> cancelled\n')
    slurm_queue.end(["7"])
    assert (tmp_path / "cancelled").read_text() == "7\n"
    assert (tmp_path / "gone").exists()
    (tmp_path / "cancelled").unlink()
    slurm_queue.end([])
    assert not (tmp_path / "cancelled").exists()
