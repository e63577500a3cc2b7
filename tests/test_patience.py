"""No wait of the launcher is without a bound and a message, whatever Slurm says."""

from pathlib import Path

import pytest

from microtome import patience, slurm_queue
from microtome.errors import UserError
from microtome.patience import GaveUpError, Patience


def looks(folder: Path, *words: tuple[str, float], failed: int | None = None, reason: str = "Resources") -> None:
    """A launcher that sees each of `words` at its second."""
    patient = Patience("7", folder)
    for word, now in words:
        patient.look(word, reason, failed, now)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([("CANCELLED", 0)], "Slurm job 7 left no result (its state: CANCELLED)"),
        ([("RUNNING", 0), ("COMPLETED", 9), ("COMPLETED", 130)], "left no result (its state: COMPLETED)"),
        ([("RUNNING", 0), ("", 9), ("", 130)], "left no result (its state: unknown to the queue)"),
        ([("TIMEOUT", 0), ("TIMEOUT", 121)], "left no result (its state: TIMEOUT)"),
        ([("RUNNING", 0), ("NODE_FAIL", 9), ("NODE_FAIL", 130)], "left no result (its state: NODE_FAIL)"),
    ],
)
def test_a_job_that_is_over_without_a_result(words: list[tuple[str, float]], expected: str, tmp_path: Path) -> None:
    (tmp_path / "7_0_log.err").write_text("the last words")
    with pytest.raises(UserError, match="the last words") as error:
        looks(tmp_path, *words)
    assert expected in str(error.value)


def test_a_job_on_its_way_through_a_requeue_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    week = 7 * 24 * 3600
    looks(tmp_path, ("RUNNING", 0), ("PREEMPTED", 1), ("COMPLETING", 100), ("PENDING", 110), ("PENDING", week), ("RUNNING", week + 1))
    assert "Slurm job 7: PENDING (Resources)" in capsys.readouterr().err


def test_a_rank_that_failed_counts_once_the_job_is_not_requeued(tmp_path: Path) -> None:
    (tmp_path / "7_1_log.err").write_text("the words of rank 1")
    looks(tmp_path, ("RUNNING", 0), ("RUNNING", 59), ("COMPLETING", 61), ("PENDING", 70), ("PENDING", 9999), ("RUNNING", 10000), failed=1)
    with pytest.raises(UserError, match=r"Rank 1 of Slurm job 7 failed \(its state: RUNNING\)(.|\n)*the words of rank 1"):
        looks(tmp_path, ("RUNNING", 0), ("RUNNING", 61), failed=1)


def test_two_weeks_in_the_queue_or_a_day_of_silence_are_enough(tmp_path: Path) -> None:
    week = 7 * 24 * 3600
    with pytest.raises(GaveUpError, match=r"waited for two weeks \(QOSMaxGRESPerUser\)\. It is still there: run again to go on waiting"):
        looks(tmp_path, ("PENDING", 0), ("PENDING", 2 * week + 1), reason="QOSMaxGRESPerUser")
    with pytest.raises(GaveUpError, match=r"did not answer for a day\. Job 7 may still be there: the same command looks for it"):
        looks(tmp_path, ("RUNNING", 0), ("UNKNOWN", 9), ("UNKNOWN", 24 * 3600 + 10))
    with pytest.raises(GaveUpError, match=r"is COMPLETING for a day: its node does not give it back"):
        looks(tmp_path, ("RUNNING", 0), ("COMPLETING", 9), ("COMPLETING", 24 * 3600 + 10), failed=1)


def test_dead_and_alive_are_told_apart() -> None:
    assert not patience.DEAD & slurm_queue.ALIVE
    assert slurm_queue.WAITING < slurm_queue.ALIVE
