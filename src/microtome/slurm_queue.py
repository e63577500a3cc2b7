"""What Slurm's queue says of jobs, and ending them. Needs no accounting.

Every call is bounded: a controller that is busy answers late, and one that is down does not answer.
"""

import getpass
import subprocess
import time
from pathlib import Path

from microtome.errors import UserError

ANSWER_S = 60
GONE_S = 600  # for cancelled jobs to be gone: Slurm lets them save (KillWait), and its epilogs clean up
POLL_S = 1.0
UNKNOWN = "UNKNOWN"  # the controller did not answer: ask again
HELD = {"REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}  # until somebody releases the job
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "CONFIGURING", "SUSPENDED", "STOPPED", "RESIZING", *HELD}
ENDING = {"COMPLETING", "SIGNALING", "STAGE_OUT"}  # a node that does not answer leaves its jobs there
ALIVE = {*WAITING, *ENDING, UNKNOWN, "RUNNING"}


def ask(*options: str) -> str | None:
    """What `squeue` prints, also of finished jobs that the controller remembers; None where it does not answer."""
    command = ["squeue", "--noheader", "--states=all", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode and "Invalid job id" not in done.stderr else done.stdout


def state(job: str) -> tuple[str, str]:
    """Slurm's words for a job's state and the reason of it, such as PENDING, Resources; two empty texts once the queue forgot the job."""
    answer = ask("--jobs", job, "--format", "%T|%r")
    if answer is None:
        return UNKNOWN, ""
    word, _, reason = answer.strip().split("\n")[0].partition("|")
    return word, reason


def submitted_from(folder: Path, comments: set[str]) -> list[str]:
    """The user's jobs that were submitted from `folder` with one of the `comments` and are not over.

    Raises:
        UserError: the controller does not answer.
    """
    answer = ask("--user", getpass.getuser(), "--format", "%A|%T|%Z|%k")
    if answer is None:
        raise UserError("Slurm does not answer, so that jobs of an earlier run may still be there. Run again when `squeue` answers.")
    jobs = [line.split("|", 3) for line in answer.splitlines()]
    return [
        job for job, word, where, comment in jobs if word in ALIVE and comment in comments and Path(where).resolve() == folder.resolve()
    ]


def end(jobs: list[str]) -> None:
    """Cancel `jobs` and wait until none of them is left running.

    Raises:
        UserError: some were still there after ten minutes.
    """
    last = time.monotonic() + GONE_S
    cancelled = False
    while left := [job for job in jobs if state(job)[0] in ALIVE]:
        if time.monotonic() > last:
            raise UserError(
                f"Slurm jobs {' '.join(left)} were cancelled, and {GONE_S // 60} minutes later they are still there. Nothing was started "
                "beside them. `squeue` and `scancel` say what holds them; run the same command again when they are gone."
            )
        cancelled = cancelled or _cancel(left)
        time.sleep(POLL_S)


def ask_to_stop(job: str) -> None:
    """Send SIGTERM to the processes that srun started for a job, and to nothing else of it."""
    _cancel(["--signal=TERM", job])


def _cancel(words: list[str]) -> bool:
    """Whether Slurm took the request."""
    try:
        return subprocess.run(["scancel", *words], check=False, timeout=ANSWER_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False
