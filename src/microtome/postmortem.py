"""After a failed run: one page that says which jobs failed and why, where their logs are, and the command that goes on.

The Snakefile writes it when a run ends with failed jobs (`onerror`) and removes it when the next one starts, so that it is never stale.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microtome.atomic import write_text
from microtome.slurm_logs import log_folder

FAILURE_PAGE = Path("logs/failure.md")
IN_FULL = 8  # jobs whose logs are shown; the others are a line each
SHOWN_SLIDES = 20
STOPPED = "The run was stopped before its end, as by Ctrl-C, which cancels its jobs on Slurm, too."
NO_LOG = "It left no log: see Snakemake's own, named above."
TAIL_LINES, TAIL_B, LINE = 20, 6000, 240
CLOCKS_S = 60.0  # by which the clock of a file system may differ
SLURM_SAYS = re.compile(r"^.*\b(?:sbatch|srun): error: .*$", re.MULTILINE)
SLIDE_STAGES = ("tissue", "tiles")  # whose sidecars have a row a slide
DOCTOR = "`make doctor`, with the run's CONFIG and PROFILE"
# What a log says that has one usual remedy. Slurm's words are those of its logs, see sacct(1), "JOB STATE CODES".
REMEDIES = {
    r"oom[_ -]kill|out of memory|MemoryError|OUT_OF_MEMORY": "It ran out of memory: raise `mem_mb` of rule {rule} in the profile.",
    r"DUE TO TIME LIMIT|TIMEOUT": "It ran into its time limit: raise `runtime` (minutes) of rule {rule} in the profile.",
    r"No space left on device|Disk quota exceeded": "The disk is full, or the quota: make room (`make plan` says how much is needed).",
    r"Too many open files": "Too many open files: `ulimit -n 65536` before the run, and on the nodes.",
    r"Read-only file system|Permission denied": "It may not write there: see to the rights of the folder that the log names.",
    r"Invalid account or account/partition|invalid partition": f"Slurm does not know the account or partition: {DOCTOR}.",
    r"can not be satisfied|node configuration is not available": f"No node has what rule {{rule}} asks for: {DOCTOR}.",
    r"ModuleNotFoundError|No module named": "The job's Python has not the packages: activate .venv before the run (`make doctor`).",
}


@dataclass(frozen=True)
class FailedJob:
    """A job that failed for good: after its retries. `logs`: its own, then Slurm's, those that this run wrote."""

    rule: str
    wildcards: dict[str, str]
    logs: tuple[Path, ...]


def failed_jobs(jobs: Iterable[Any], slurm_logs: Path, since: float) -> list[FailedJob]:
    """From Snakemake's failed jobs (a group is its jobs); what the Slurm executor wrote of them is looked for under `slurm_logs`.

    Logs from before `since` (a time in seconds since the epoch) are of an earlier run: this one's job never started.
    """
    single = [job for member in jobs for job in (member.jobs if member.is_group() else [member])]
    found = []
    for job in single:
        wildcards = {name: str(value) for name, value in job.wildcards_dict.items()}
        executor = log_folder(slurm_logs, job.rule.name, wildcards.values())
        launched = Path(str(job.params.get("slurm_logs", executor)))
        logs = [*map(Path, job.log), *_newest(executor, "*.log"), *_newest(launched, "*_log.err")]
        found.append(FailedJob(job.rule.name, wildcards, tuple(log for log in logs if _is_new(log, since))))
    return sorted(found, key=lambda job: (job.rule, list(job.wildcards.values())))


def _is_new(log: Path, since: float) -> bool:
    return log.is_file() and log.stat().st_mtime > since - CLOCKS_S and log.stat().st_size > 0


def _newest(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns)[-1:]


def tail(log: Path) -> str:
    """The last lines of a log, the beginnings of long ones; what a progress bar drew over itself is left out."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_B))
        text = file.read().decode(errors="replace")
    lines = [line.rstrip("\r").split("\r")[-1] for line in text.split("\n")]
    return "\n".join([line[:LINE] + "…" * (len(line) > LINE) for line in lines if line.strip()][-TAIL_LINES:])


def remedy(rule: str, text: str) -> str:
    """What usually helps against what a log says; "" where nothing is known."""
    known = (advice for pattern, advice in REMEDIES.items() if re.search(pattern, text, re.IGNORECASE))
    return next(known, "").format(rule=rule)


def failed_slides(job: FailedJob, results: Path) -> dict[str, str]:
    """The slides that failed in a job of `tissue` or `tiles` and their reasons, from their sidecars; none for other rules."""
    if job.rule not in SLIDE_STAGES:
        return {}
    sidecars = sorted((results / job.rule / job.wildcards["shard"]).glob("[!_]*.json"))
    rows = [json.loads(sidecar.read_text())["row"] for sidecar in sidecars]
    return {row["slide"]: row["reason"] for row in rows if row["status"] == "failed"}


def refusals(logs: Sequence[str]) -> str:
    """What Slurm answered to jobs that it did not take, once each, from Snakemake's own logs."""
    said = "\n".join(Path(log).read_text(errors="replace") for log in logs if Path(log).is_file())
    return "\n".join(dict.fromkeys(line.strip() for line in SLURM_SAYS.findall(said)))


def section(job: FailedJob, results: Path, refused: str) -> str:
    """What there is to say of one failed job, as Markdown; `refused` is what Slurm said of jobs that left no log."""
    tails = [f"The end of `{log}`:\n\n~~~\n{tail(log)}\n~~~" for log in job.logs]
    none = f"It left no log. What Slurm refused, from Snakemake's log:\n\n~~~\n{refused}\n~~~" if refused else NO_LOG
    logs = tails or [none]
    advice = remedy(job.rule, "\n".join(logs))
    slides = failed_slides(job, results)
    listed = [f"- `{slide}`: {reason}" for slide, reason in list(slides.items())[:SHOWN_SLIDES]]
    more = [f"- and {len(slides) - SHOWN_SLIDES} more"] * (len(slides) > SHOWN_SLIDES)
    parts = [f"## {_name(job)}", advice, f"{len(slides)} slides failed:\n\n" + "\n".join(listed + more) if slides else ""]
    return "\n\n".join(part for part in [*parts, *logs] if part)


def _name(job: FailedJob) -> str:
    return f"{job.rule} {', '.join(f'{name}={value}' for name, value in job.wildcards.items())}".strip()


def page(failed: Sequence[FailedJob], waiting: int, command: str, logs: Sequence[str], results: Path) -> str:
    """The whole page. `waiting`: jobs that did not run, `command`: what started the run, `logs`: Snakemake's own."""
    title = f"# {_jobs(len(failed)).capitalize()} failed, {_jobs(waiting)} did not run"
    cause = "Once the cause is mended, the same command goes on" if failed else f"{STOPPED} The same command goes on"
    go_on = f"{cause}; finished jobs, slides and steps are kept:\n\n~~~\n{command}\n~~~"
    others = [f"- {_name(job)}: {', '.join(f'`{log}`' for log in job.logs) or 'no log'}" for job in failed[IN_FULL:]]
    rest = [f"## {_jobs(len(others))} more\n\n" + "\n".join(others)] * bool(others)
    own = f"Snakemake's log: {', '.join(f'`{log}`' for log in logs)}"
    refused = refusals(logs)
    sections = [section(job, results, refused) for job in failed[:IN_FULL]]
    return "\n\n".join([title, go_on, own, *sections, *rest]) + "\n"


def _jobs(count: int) -> str:
    return f"{count:,} job{'s' * (count != 1)}" if count else "no job"


def postmortem(workflow: Any, path: Path, logs: Sequence[str], since: float) -> str:
    """Write the page of Snakemake's `workflow`, which began at `since` and has just ended with jobs that failed or did not run.

    Returns the line that points to the page.
    """
    executor_logs = Path(getattr(workflow.executor_settings, "logdir", None) or ".snakemake/slurm_logs")
    failed = failed_jobs(workflow.scheduler.failed, executor_logs, since)
    waiting = sum(1 for job in workflow.dag.needrun_jobs() if job.output) - len(failed)
    command = f"cd {shlex.quote(str(workflow.workdir_init))}\n{shlex.join(['snakemake', *sys.argv[1:]])}"
    write_text(path, page(failed, waiting, command, logs, Path("results")))
    if not failed:
        return f"No job failed. {STOPPED} How to go on: {path.absolute()}"
    return f"{_jobs(len(failed))} failed. Which, why, and how to go on: {path.absolute()}"
