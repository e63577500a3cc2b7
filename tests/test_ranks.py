"""One of several processes as submitit runs it: its environment, its end, and saving before a requeue. A shell stands in for training."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import submitit

from microtome import ranks
from microtome.errors import STOPPED
from microtome.ranks import Ranks, rank_environment, stopped_note


class RequeuedError(Exception):
    """In place of the end that Slurm makes of a process after its checkpoint."""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """submitit's environment of rank 1 of 2, and its folder."""
    job = {"LOCAL_JOB_ID": "4040007", "LOCAL_NTASKS": "2", "LOCAL_GLOBALID": "1", "LOCAL_LOCALID": "1"}
    for name, value in {**job, "EXECUTOR": "local", "FOLDER": str(tmp_path)}.items():
        monkeypatch.setenv(f"SUBMITIT_{name}", value)
    monkeypatch.setattr(ranks, "_CHILD", None)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGUSR2)
    yield tmp_path
    signal.signal(signal.SIGUSR2, before)
    if ranks._CHILD is not None:
        ranks._CHILD.kill()
        ranks._CHILD.wait()


def shell(script: str) -> Ranks:
    return Ranks(["sh", "-c", script])


def test_a_rank_finds_the_others(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "kept")
    stale = submitit.JobEnvironment().paths.result_pickle  # of the time before a requeue
    stale.write_text("")
    stopped_note(stale).touch()
    shell('echo $RANK $WORLD_SIZE $LOCAL_RANK $MASTER_PORT "$MASTER_ADDR" $KEPT > found')()
    rank, world, local_rank, port, host, kept = (task / "found").read_text().split()
    assert (rank, world, local_rank, port) == ("1", "2", "1", "20007")
    assert host == submitit.JobEnvironment().hostnames[0]
    assert kept == "kept", "the rest of the environment"
    assert not stale.exists()
    assert not stopped_note(stale).exists()
    assert rank_environment(0, 1, 0, "h", 7) == {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "h", "MASTER_PORT": "7"}


def test_a_command_that_fails_says_its_status(task: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError, match="status 3") as error:
        shell("exit 3")()
    assert error.value.returncode == 3


@pytest.mark.parametrize("end", [f"exit {STOPPED}", "kill -USR2 $$", "kill -TERM $$"])
def test_one_that_was_stopped_waits_for_the_end_that_slurm_makes(end: str, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "SIGNAL_AHEAD_S", 0.1)
    start = time.monotonic()
    with pytest.raises(subprocess.CalledProcessError):
        shell(end)()
    assert time.monotonic() - start > 0.1
    assert (task / "4040007_1_result.stopped").exists()


def signalled(training: Ranks) -> "list[submitit.helpers.DelayedSubmission]":
    """Run it, and once its command has made the file `ready` send SIGUSR2, which does what submitit makes of it."""
    submitted: list[submitit.helpers.DelayedSubmission] = []

    def checkpoint(*_: object) -> None:
        submitted.append(training.checkpoint())
        raise RequeuedError

    def send() -> None:
        while ranks._CHILD is None or not Path("ready").exists():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    signal.signal(signal.SIGUSR2, checkpoint)
    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(RequeuedError):
        training()
    return submitted


def test_the_command_saves_before_it_is_requeued(task: Path) -> None:
    training = shell(f"trap 'sleep 0.1; echo all > saved; exit {STOPPED}' USR2; touch ready; while :; do sleep 0.02; done")
    submitted = signalled(training)
    assert (task / "saved").read_text() == "all\n"
    assert [again.function.command for again in submitted] == [training.command]


def test_one_that_does_not_save_in_time_is_requeued_all_the_same(
    task: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ranks, "SAVE_S", 0.1)
    training = shell("trap '' USR2; touch ready; exec sleep 60")
    submitted = signalled(training)
    assert len(submitted) == 1
    assert "Rank 0 did not save within 0.1 s; it goes on from the state before." in capfd.readouterr().err


def test_a_signal_before_the_command_began_or_after_it_ended(task: Path) -> None:
    training = shell("true")
    for _ in range(2):
        assert training.checkpoint().function.command == ["sh", "-c", "true"]
        training()
