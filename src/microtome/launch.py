"""Run a command as many processes that train together: on this machine, or on the nodes of a Slurm cluster through submitit.

Each process finds RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT in its environment, as under torchrun. The launcher streams
what rank 0 says, fails when a rank fails, and stops what it started when it is stopped. On Slurm the job is requeued at its time limit and
on preemption, after rank 0 was asked (SIGUSR2) to save; a launcher that was killed finds its job again instead of starting a second writer.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.errors import UserError

POLL_S = 2.0
SAVE_S = 80  # to save after SIGUSR2; Slurm kills SIGNAL_AHEAD_S after it
SIGNAL_AHEAD_S = 120
TAIL_B = 3000
VANISHED_S = 120  # a job that left the queue must have written its result by then
LONGEST_QUEUE_S = 14 * 24 * 3600
ALIVE = {"PENDING", "RUNNING", "REQUEUED", "COMPLETING", "CONFIGURING", "SUSPENDED", "PREEMPTED", "RESIZING", "UNKNOWN"}
DEAD = {"CANCELLED", "FAILED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}  # not TIMEOUT or NODE_FAIL: Slurm may requeue these
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


class Ranks:
    """What submitit runs in each task: the command, with the rank's environment. Its `checkpoint` is called on rank 0's SIGUSR2."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __call__(self) -> None:
        """Run to the end; raises CalledProcessError with the command's status."""
        task = submitit.JobEnvironment()
        port = 20000 + int(task.job_id.split("_")[0]) % 20000
        rank = rank_environment(task.global_rank, task.num_tasks, task.local_rank, task.hostnames[0], port)
        global _CHILD
        _CHILD = subprocess.Popen(self.command, env={**os.environ, **rank})
        if status := _CHILD.wait():
            raise subprocess.CalledProcessError(status, self.command)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Let the command save, and run it again after the requeue: it goes on from there."""
        if _CHILD is not None:
            _CHILD.send_signal(signal.SIGUSR2)
            try:
                _CHILD.wait(SAVE_S)
            except subprocess.TimeoutExpired:
                print(f"Rank 0 did not save within {SAVE_S} s; it goes on from the state before.", file=sys.stderr)
        return submitit.helpers.DelayedSubmission(Ranks(self.command))


_CHILD: "subprocess.Popen[bytes] | None" = None  # of this task; not part of Ranks, which is pickled


def rank_environment(rank: int, world: int, local_rank: int, host: str, port: int) -> dict[str, str]:
    """The variables by which torch.distributed finds the other processes."""
    values = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": local_rank, "MASTER_ADDR": host, "MASTER_PORT": port}
    return {name: str(value) for name, value in values.items()}


def run_here(command: list[str], processes: int) -> int:
    """Run `processes` of `command` on this machine; the first status that is not 0, after which the others are stopped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environments = [rank_environment(rank, processes, rank, "127.0.0.1", port) for rank in range(processes)]
    ranks = [subprocess.Popen(command, env={**os.environ, **environment}) for environment in environments]

    def pass_on(number: int, _: object) -> None:
        for rank in ranks:
            rank.send_signal(number)

    for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(stop, pass_on)
    while (statuses := [rank.poll() for rank in ranks]).count(None) and not any(statuses):
        time.sleep(0.1)
    failed = next((status for status in statuses if status), 0)
    for rank in ranks:
        rank.terminate()
        rank.wait()
    return failed


def submit(command: list[str], place: Placement, folder: Path) -> str:
    """Submit a requeueable Slurm job of `place.nodes` x `place.processes` tasks; its logs and result go to `folder`. Returns its id."""
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
        slurm_signal_delay_s=SIGNAL_AHEAD_S,
        slurm_additional_parameters=extra,
    )
    with submitit.helpers.clean_env():
        return str(executor.submit(Ranks(command)).job_id)


def queue_state(job: str) -> str:
    """Slurm's word for the job, such as PENDING or RUNNING; "" once the queue does not know it. Needs no accounting."""
    done = subprocess.run(
        ["squeue", "--noheader", "--jobs", job, "--format", "%T"], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode and "Invalid job id" not in done.stderr:
        return "UNKNOWN"  # the controller does not answer: ask again
    return done.stdout.strip().split("\n")[0]


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
    files = {rank: folder / f"{job}_{rank}_result.pkl" for rank in range(ranks)}
    return {rank: submitit.core.utils.pickle_load(file)[0] == "success" for rank, file in files.items() if file.is_file()}


def check(ended: dict[int, bool], job: str, folder: Path) -> None:
    """Raise UserError with the end of the log of the first rank that failed, if one did."""
    for rank in [rank for rank, succeeded in ended.items() if not succeeded][:1]:
        log = folder / f"{job}_{rank}_log.err"
        tail = log.read_text(errors="replace")[-TAIL_B:] if log.is_file() else ""
        raise UserError(f"Rank {rank} of Slurm job {job} failed. The end of its log {log}:\n{tail}")


def wait_for(job: str, folder: Path, ranks: int) -> None:
    """Stream rank 0's log until every rank of the job has succeeded.

    Raises:
        UserError: a rank failed, the job was cancelled or vanished, or it waited in the queue for two weeks.
    """
    log, position = folder / f"{job}_0_log.err", 0
    queued_since = seen_at = time.monotonic()
    while len(ended := results(job, folder, ranks)) < ranks:
        state, now = queue_state(job), time.monotonic()
        position = follow(log, position)
        check(ended, job, folder)
        queued_since = queued_since if state == "PENDING" else now
        seen_at = now if state in ALIVE else seen_at
        if now - queued_since > LONGEST_QUEUE_S:
            raise UserError(f"Slurm job {job} waited for two weeks. `squeue -j {job}` says why; run again to go on waiting.")
        if now - seen_at > VANISHED_S or state in DEAD:
            raise UserError(
                f"Slurm job {job} ended as {state or 'unknown to the queue'} without a result. The logs of its ranks: {folder}/{job}_*"
            )
        time.sleep(POLL_S)
    follow(log, position)
    check(ended, job, folder)


def run_on_slurm(command: list[str], place: Placement, folder: Path) -> None:
    """Submit, or find the job that a killed launcher left, and wait for it; a launcher that is stopped or fails cancels its job."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "job.txt"
    job = note.read_text() if note.is_file() else ""
    if job and queue_state(job) in ALIVE:
        print(f"Slurm job {job} is there already: waiting for it.", file=sys.stderr)
    else:
        job = submit(command, place, folder)
        write_text(note, job)
        print(f"Slurm job {job}: {place.nodes} nodes x {place.processes} processes. Its logs: {folder}/{job}_*", file=sys.stderr)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda number, _: sys.exit(f"Stopped by signal {number}."))
    try:
        wait_for(job, folder, place.nodes * place.processes)
    except (SystemExit, UserError):
        subprocess.run(["scancel", job], check=False, timeout=60)
        raise
    finally:
        note.unlink()


def launch(
    command: list[str],
    folder: Path,
    nodes: int,
    processes: int,
    gpus: int,
    cpus: int,
    mem_mb: int,
    runtime_min: int,
    partition: str,
    account: str,
) -> None:
    """Run `command` as `nodes` x `processes` ranks on Slurm, or as `processes` ranks on this machine where `nodes` is 0.

    `gpus` and `mem_mb` are a node's, `cpus` a process's; Slurm's files go to `folder`. Exits with the status of a rank that fails here.
    """
    if nodes:
        run_on_slurm(command, Placement(nodes, processes, gpus, cpus, mem_mb, runtime_min, partition, account), folder)
    elif status := run_here(command, processes):
        sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    run(launch)
