"""What runs as one of several processes that train together: a command, with its rank in its environment.

Each finds RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as under torchrun.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import submitit

from microtome.errors import STOPPED

SAVE_S = 80  # to save after SIGUSR2; Slurm kills SIGNAL_AHEAD_S after it
SIGNAL_AHEAD_S = 120


class Ranks:
    """What submitit runs in each task: the command, with the rank's environment. Its `checkpoint` is called on rank 0's SIGUSR2."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __call__(self) -> None:
        """Run to the end; raises CalledProcessError with the command's status."""
        task = submitit.JobEnvironment()
        result, stopped = task.paths.result_pickle, stopped_note(task.paths.result_pickle)
        for path in (result, stopped):
            path.unlink(missing_ok=True)  # of the time before a requeue
        port = 20000 + int(task.job_id.split("_")[0]) % 10000  # below those that the system gives to any connection
        rank = rank_environment(task.global_rank, task.num_tasks, task.local_rank, task.hostnames[0], port)
        global _CHILD
        _CHILD = subprocess.Popen(self.command, env={**os.environ, **rank})
        os.waitid(os.P_PID, _CHILD.pid, os.WEXITED | os.WNOWAIT)  # not Popen.wait, whose lock `checkpoint` could not get inside of it
        status = _CHILD.wait()
        if status in (STOPPED, -signal.SIGUSR2, -signal.SIGTERM):
            stopped.touch()
            time.sleep(SIGNAL_AHEAD_S)  # no failure: rank 0 has the job requeued, and Slurm ends this process
        if status:
            raise subprocess.CalledProcessError(status, self.command)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Let the command save, and run it again after the requeue: it goes on from there."""
        if _CHILD is not None:
            _CHILD.send_signal(signal.SIGUSR2)
            last = time.monotonic() + SAVE_S
            with suppress(ChildProcessError):  # it ended before the signal, and was waited for
                while os.waitid(os.P_PID, _CHILD.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                    if time.monotonic() > last:
                        print(f"Rank 0 did not save within {SAVE_S} s; it goes on from the state before.", file=sys.stderr)
                        break
                    time.sleep(0.1)
        return submitit.helpers.DelayedSubmission(Ranks(self.command))


def stopped_note(result: Path) -> Path:
    """The file that says that a rank was stopped and will save no more, beside that of its result."""
    return result.with_suffix(".stopped")


_CHILD: "subprocess.Popen[bytes] | None" = None  # of this task; not part of Ranks, which is pickled


def rank_environment(rank: int, world: int, local_rank: int, host: str, port: int) -> dict[str, str]:
    """The variables by which torch.distributed finds the other processes."""
    values = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": local_rank, "MASTER_ADDR": host, "MASTER_PORT": port}
    return {name: str(value) for name, value in values.items()}
