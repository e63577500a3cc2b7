"""Slurm jobs whose snakemake was killed go on alone. What they finish must count, and what they write no second job may write meanwhile.

The Snakefile's hooks call this with Snakemake's `workflow` (tried on 9.27). Pretraining is not meant: its launcher finds its own job.
"""

import sys
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.persistence import PersistenceBase

from microtome.errors import UserError
from microtome.slurm_logs import joined
from microtome.slurm_queue import end, submitted_from


def record_here() -> None:
    """Have the snakemake of a job on a node record what the job's files were made from, as soon as they are.

    By itself only the main process does so: what a job finished after that was killed would count as finished, with nothing known of its
    settings, and a later change of them would never make it again. The record is Snakemake's own, as with `--immediate-submit`.
    """
    finished = PersistenceBase.finished

    async def finished_and_recorded(self: Any, job: Any) -> None:
        settings = self.dag.workflow.remote_execution_settings
        settings.immediate_submit = True
        await finished(self, job)
        settings.immediate_submit = False

    PersistenceBase.finished = finished_and_recorded


def end_leftovers(workflow: Any) -> None:
    """Before anything starts: end the jobs that a killed run left, of those that this run is about to submit.

    Slides that they have finished are kept. Jobs that write other files, of another run in this folder, are left alone.

    Raises:
        WorkflowError: they do not end, or Slurm does not answer.
    """
    if workflow.executor_plugin.name != "slurm":
        return
    try:
        jobs = submitted_from(Path.cwd(), {comment(job) for job in workflow.dag.needrun_jobs() if not job.is_local})
        if jobs:
            said = f"Slurm jobs {' '.join(jobs)} of a run that was killed are still there: cancelling them first."
            print(said, file=sys.stderr, flush=True)
        end(jobs)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def comment(job: Any) -> str:
    """What the executor plugin (2.8.0) writes into the comment of a job's Slurm job."""
    wildcards = joined(job.wildcards)
    return f"rule_{job.name}" + (f"_wildcards_{wildcards}" if wildcards else "")
