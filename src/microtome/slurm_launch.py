"""Run a command as the ranks of one Slurm job, through submitit, and wait for it.

The job is requeued at its time limit and on preemption, after rank 0 was asked (SIGUSR2) to save. `job.txt` in its folder names it and the
launcher that follows it: so a launcher that was killed finds its job again instead of starting a second writer. Every wait has a bound
(`Patience`) and a message.
"""

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from microtome.atomic import write_text
from microtome.errors import UserError
from microtome.patience import GaveUpError, Patience, log_of
from microtome.ranks import SAVE_S, SIGNAL_AHEAD_S, Ranks, stopped_note
from microtome.slurm_queue import ALIVE, ask_to_stop, end, state, submitted_from

POLL_S = 2.0  # between looks for results and for more of the log
ASK_S = 10.0  # between questions to the controller, which many users ask
REQUEUES = 1000  # a walltime loses nothing, so there is no reason to give up


@dataclass(frozen=True)
class Placement:
    """What a Slurm job asks for: `processes`, `gpus` and `mem_mb` are a node's, `cpus` a process's."""

    nodes: int
    processes: int
    gpus: int
    cpus: int
    mem_mb: int
    runtime_min: int
    partition: str
    account: str


def submit(command: list[str], place: Placement, folder: Path) -> str:
    """Submit a requeueable Slurm job of `place.nodes` x `place.processes` tasks; its logs and result go to `folder`. Returns its id.

    Raises:
        UserError: Slurm refused it.
    """
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=REQUEUES)
    extra: dict[str, Any] = {"requeue": True, "open-mode": "append"}
    extra |= {"account": place.account} if place.account else {}
    extra |= {"gres": f"gpu:{place.gpus}"} if place.gpus else {}
    executor.update_parameters(
        name="microtome-pretrain",
        nodes=place.nodes,
        tasks_per_node=place.processes,
        cpus_per_task=place.cpus,
        timeout_min=place.runtime_min,
        slurm_mem=f"{place.mem_mb}M",
        slurm_partition=place.partition or None,
        slurm_comment=str(folder),
        slurm_signal_delay_s=SIGNAL_AHEAD_S,
        slurm_srun_args=[f"--cpus-per-task={place.cpus}"],  # Slurm 22.05 to 23.02: srun does not take it from the job
        slurm_additional_parameters=extra,
    )
    try:
        with submitit.helpers.clean_env():
            return str(executor.submit(Ranks(command)).job_id)
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise UserError(f"Slurm did not take the job: {error}\nExpected: {place}. The profile's `pretrain` resources say so.") from None


def follow(log: Path, position: int) -> int:
    """Print what was added to `log` since `position`; the new position."""
    if log.is_file():
        with log.open("rb") as file:
            file.seek(position)
            text = file.read()
        sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()
        position += len(text)
    return position


def results(job: str, folder: Path, ranks: int) -> dict[int, bool]:
    """Whether each rank that has ended succeeded."""
    ended = {}
    for rank in range(ranks):
        with suppress(FileNotFoundError):  # not there yet, or removed by a rank that begins again
            ended[rank] = submitit.core.utils.pickle_load(folder / f"{job}_{rank}_result.pkl")[0] == "success"
    return ended


def wait_for(job: str, folder: Path, ranks: int, owner: str) -> None:
    """Stream rank 0's log until every rank of the job has succeeded, or another launcher has taken over.

    Raises:
        UserError, GaveUpError: as `Patience.look`.
    """
    log, position = log_of(folder, job, 0), 0
    patience, asked_at = Patience(job, folder), -ASK_S
    while list((ended := results(job, folder, ranks)).values()) != [True] * ranks:
        position = follow(log, position)
        if read_note(folder)[1] not in ("", owner):
            sys.exit(f"Another launcher follows Slurm job {job} now.")
        failed = next((rank for rank, succeeded in ended.items() if not succeeded), None)
        if time.monotonic() - asked_at >= ASK_S:
            asked_at = time.monotonic()
            patience.look(*state(job), failed, asked_at)
        time.sleep(POLL_S)
    follow(log, position)


def read_note(folder: Path) -> tuple[str, str]:
    """The Slurm job that writes here and the launcher that follows it, as `run_on_slurm` left them; empty texts where there is none."""
    note = folder / "job.txt"
    job, _, owner = (note.read_text() if note.is_file() else "").partition("\n")
    return job, owner


def find(folder: Path) -> str:
    """The job that a launcher left, by its comment or by `job.txt`; an empty text where none is left."""
    noted = read_note(folder)[0]
    found = submitted_from(Path.cwd(), {str(folder)})
    return found[0] if found else noted if noted and state(noted)[0] in ALIVE else ""


def run_on_slurm(command: list[str], place: Placement, folder: Path) -> None:
    """Submit, or find the job that a killed launcher left, and wait for it; a launcher that is stopped (after its job has saved) or fails
    cancels its job.
    """
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda number, _: sys.exit(f"Stopped by signal {number}."))
    folder.mkdir(parents=True, exist_ok=True)
    owner = f"{socket.gethostname()} {os.getpid()}"
    if job := find(folder):
        print(f"Slurm job {job} is there already: waiting for it.", file=sys.stderr)
    else:
        job = submit(command, place, folder)
        print(f"Slurm job {job}: {place.nodes} nodes x {place.processes} processes. Its logs: {folder}/{job}_*", file=sys.stderr)
    write_text(folder / "job.txt", f"{job}\n{owner}")
    try:
        wait_for(job, folder, place.nodes * place.processes, owner)
    except GaveUpError:
        raise
    except (SystemExit, UserError) as error:
        if read_note(folder)[1] in ("", owner):
            give_up(job, folder, may_save=isinstance(error, SystemExit))
            (folder / "job.txt").unlink(missing_ok=True)
        raise
    (folder / "job.txt").unlink(missing_ok=True)


def give_up(job: str, folder: Path, may_save: bool) -> None:
    """End the job, and return when it writes no more; further signals do not disturb that."""
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_IGN)
    if may_save and state(job)[0] == "RUNNING":
        let_save(job, folder)
    print(f"Ending Slurm job {job}, and waiting until it is gone.", file=sys.stderr, flush=True)
    end([job])


def let_save(job: str, folder: Path) -> None:
    """Ask the ranks to save and stop, and wait for rank 0. `scancel` alone would end srun, too, which kills its ranks at once."""
    print(f"Waiting for Slurm job {job} to save, {SAVE_S} s at most.", file=sys.stderr, flush=True)
    saved, last = stopped_note(folder / f"{job}_0_result.pkl"), time.monotonic() + SAVE_S
    ask_to_stop(job)
    while not saved.exists() and state(job)[0] == "RUNNING" and time.monotonic() < last:
        time.sleep(POLL_S)
