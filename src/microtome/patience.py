"""How long a launcher waits for its Slurm job, whatever the job's state: no wait without a bound and a message."""

import sys
from pathlib import Path

from microtome.errors import UserError
from microtome.slurm_queue import ALIVE, ENDING, UNKNOWN, WAITING

TAIL_B = 3000
VANISHED_S = 120  # a job that left the queue must have written its result by then, or be back in the queue
LONGEST_SILENCE_S = 24 * 3600  # of a controller
LONGEST_ENDING_S = 24 * 3600  # of a node that does not give its job back
LONGEST_QUEUE_S = 14 * 24 * 3600
FAILING_S = 60  # for a job to end, or to be requeued, once one of its ranks has failed
REMIND_S = 3600  # to say again why a job waits
DEAD = {"CANCELLED", "FAILED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}  # not TIMEOUT or NODE_FAIL: Slurm may requeue these


def log_of(folder: Path, job: str, rank: int) -> Path:
    """What a rank of a job says, as submitit names it."""
    return folder / f"{job}_{rank}_log.err"


def tail(folder: Path, job: str, rank: int) -> str:
    """The end of a rank's log, with its name."""
    log = log_of(folder, job, rank)
    return f"The end of its log {log}:\n{log.read_text(errors='replace')[-TAIL_B:] if log.is_file() else '(there is none)'}"


class GaveUpError(UserError):
    """The launcher stops waiting, but its job is still in the queue: the same command finds it again."""


class Patience:
    """How long the launcher waits for its job in the states that Slurm names, and what it says meanwhile. Times are of `time.monotonic`."""

    def __init__(self, job: str, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.word, self.said_at = "", 0.0
        self.kind, self.since = "", 0.0

    def look(self, word: str, reason: str, failed: int | None, now: float) -> None:
        """Take in the job's state, and which rank has failed, if one has: where a node went down, a requeue makes up for that.

        Raises:
            UserError: it ended without a result, or goes on without a rank that failed.
            GaveUpError: it waited in the queue for two weeks, or ended for a day, or the controller was silent for a day.
        """
        kind = "silent" if word == UNKNOWN else "queued" if word in WAITING else "alive" if word in ALIVE else "over"
        kind = "failing" if word == "RUNNING" and failed is not None else "ending" if word in ENDING else kind
        if kind != self.kind:
            self.kind, self.since = kind, now
        if word != self.word or (kind == "queued" and now - self.said_at > REMIND_S):
            self.word, self.said_at = word, now
            print(f"Slurm job {self.job}: {self._says(word, reason)}", file=sys.stderr, flush=True)
        waited = now - self.since
        if kind == "queued" and waited > LONGEST_QUEUE_S:
            raise GaveUpError(f"Slurm job {self.job} waited for two weeks ({reason}). It is still there: run again to go on waiting.")
        if kind == "silent" and waited > LONGEST_SILENCE_S:
            raise GaveUpError(f"Slurm did not answer for a day. Job {self.job} may still be there: the same command looks for it.")
        if kind == "ending" and waited > LONGEST_ENDING_S:
            raise GaveUpError(f"Slurm job {self.job} is {word} for a day: its node does not give it back. Ask who runs the cluster.")
        if word in DEAD or (kind == "over" and waited > VANISHED_S) or (kind == "failing" and waited > FAILING_S):
            what = f"Rank {failed} of Slurm job {self.job} failed" if failed is not None else f"Slurm job {self.job} left no result"
            raise UserError(f"{what} (its state: {word or 'unknown to the queue'}). {tail(self.folder, self.job, failed or 0)}")

    def _says(self, word: str, reason: str) -> str:
        if word == UNKNOWN:
            return "the controller does not answer; asking again"
        return (word or "gone from the queue") + (f" ({reason})" if reason not in ("", "None") else "")
