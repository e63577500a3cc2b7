"""How long Snakemake waits for its Slurm jobs: no longer than a bound, and with a message.

The executor plugin (2.8.0) has no bound, and drops every job whose state it could not ask for: `wait_with_bounds` stands between it and
the queue. Pretraining is not meant: its launcher has its own patience.
"""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from snakemake.exceptions import WorkflowError

from microtome.patience import LONGEST_ENDING_S, LONGEST_QUEUE_S, LONGEST_SILENCE_S, REMIND_S
from microtome.slurm_queue import ALIVE, ENDING, WAITING

LOST_S = 900  # for a job that was preempted or lost its node to be back in the queue; longer than Slurm's own delays (two minutes)
GONE = {"", "PREEMPTED", "NODE_FAIL", "REVOKED"}  # "": the queue does not know it any more
UNSEEN_S = 3600  # for a submitted job to be seen at all: the accounting database may lag
UNSEEN = "never"  # in place of the state of such a job
CONTROLLER = ""  # in place of a job
AGAIN = "The same command goes on: what jobs have finished counts."
Query = Callable[[str, Any], Awaitable[tuple[dict[str, str] | None, float | None]]]


class Bounds:
    """What the plugin gets to know of its jobs, and what is said meanwhile. Times are of `time.monotonic`."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}  # each job that is not over: Slurm's word for its state, or UNSEEN
        self._since: dict[str, tuple[str, float]] = {}  # what it waits for, and since when
        self._said_at = 0.0

    def submitted(self, jobs: Iterable[str]) -> None:
        """Jobs that the plugin waits for, whether or not the queue has shown them yet."""
        for job in jobs:
            self._last.setdefault(job, UNSEEN)

    def look(self, found: Mapping[str, str] | None, now: float) -> dict[str, str]:
        """Jobs and their states as the plugin is to see them; `found` is what Slurm said, None where it did not answer.

        Raises:
            WorkflowError: a day without an answer or of ending, two weeks in the queue, or a job that the queue has forgotten.
        """
        if found is None:
            self._silent(self._waited(CONTROLLER, "silent", now), now)
            return {}  # no job is over; the plugin asks again
        self._since.pop(CONTROLLER, None)
        words = {job: (word.split() or [""])[0] for job, word in found.items()}
        for job in {**self._last, **words}:
            word = words.get(job, "")
            if word in GONE and job in self._last and self._lost(job, self._waited(job, "lost", now)):
                words[job] = "FAILED"
            elif word in WAITING:
                self._queued(job, self._waited(job, "queued", now))
            elif word in ENDING:
                self._ending(job, self._waited(job, "ending", now))
            elif word not in GONE:
                self._since.pop(job, None)
            self._remember(job, words.get(job, ""))
        return words

    def _waited(self, what: str, kind: str, now: float) -> float:
        if self._since.get(what, ("", now))[0] != kind:
            self._since[what] = kind, now
        return now - self._since[what][1]

    def _remember(self, job: str, word: str) -> None:
        if word in ALIVE or word in GONE - {""}:
            self._last[job] = word
        elif word:  # over: the plugin takes care of it
            self._last.pop(job, None)

    def _silent(self, waited_s: float, now: float) -> None:
        if waited_s > LONGEST_SILENCE_S:
            raise WorkflowError(f"Slurm did not answer for a day. Its jobs may still be there. {AGAIN}")
        if waited_s == 0 or now - self._said_at > REMIND_S:
            self._said_at = now
            print("Slurm does not answer; asking again. Jobs go on meanwhile.", file=sys.stderr, flush=True)

    def _queued(self, job: str, waited_s: float) -> None:
        if waited_s > LONGEST_QUEUE_S:
            raise WorkflowError(f"Slurm job {job} waited for two weeks: `squeue --jobs {job} --format %r` says for what. {AGAIN}")

    def _ending(self, job: str, waited_s: float) -> None:
        if waited_s > LONGEST_ENDING_S:
            raise WorkflowError(f"Slurm job {job} did not end for a day: its node does not give it back. Ask who runs the cluster. {AGAIN}")

    def _lost(self, job: str, waited_s: float) -> bool:
        """Whether the job is to count as failed: it was preempted, or its node went down, and Slurm did not requeue it."""
        if waited_s <= (UNSEEN_S if self._last[job] == UNSEEN else LOST_S):
            return False
        if self._last[job] not in GONE:
            raise WorkflowError(
                f"Slurm does not know job {job}, last seen: {self._last[job]}. It ended while nobody asked, longer ago than MinJobAge "
                f"(scontrol show config). {AGAIN}"
            )
        said = f"Slurm job {job} ({self._last[job]}) was not requeued within {LOST_S // 60} minutes: it counts as failed."
        print(said, "In a partition that preempts, PreemptMode must be REQUEUE.", file=sys.stderr, flush=True)
        return True


def wait_with_bounds(workflow: Any) -> None:
    """Before anything starts: have the plugin ask for states through `Bounds`."""
    if workflow.executor_plugin.name != "slurm":
        return
    plugin: Any = import_module("snakemake_executor_plugin_slurm")
    query: Query = plugin.query_job_status
    bounds = Bounds()

    async def bounded(command: str, logger: Any) -> tuple[dict[str, str], float]:
        found, seconds = await query(command, logger)
        return bounds.look(found, time.monotonic()), seconds or 0.0

    plugin.query_job_status = bounded
    check = plugin.Executor.check_active_jobs

    def check_bounded(executor: Any, jobs: list[Any]) -> AsyncIterator[Any]:
        bounds.submitted(job.external_jobid.split("_")[0] for job in jobs)  # of a task of an array, the array
        found: AsyncIterator[Any] = check(executor, jobs)
        return found

    plugin.Executor.check_active_jobs = check_bounded
