"""Run a command as many processes that train together: on this machine, or on the nodes of a Slurm cluster.

The launcher streams what rank 0 says, fails when a rank fails, and stops what it started when it is stopped or killed.
"""

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from microtome.command_line import run
from microtome.errors import STOPPED, UserError
from microtome.orphans import STOPS, die_with_parent
from microtome.patience import log_of, tail
from microtome.ranks import rank_environment
from microtome.slurm_launch import Placement, run_on_slurm

PATIENCE_S = 90.0  # for ranks to end once one of them has
LOWEST_PORT = 10_000
STOPPED_BY = {STOPPED, *(-stop for stop in STOPS)}  # statuses of ranks that were asked to
HERE = "here"  # instead of a Slurm job's number, in the names of logs
LONGEST_HELD_S = 14 * 24 * 3600.0  # a folder, by another launcher


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder` against other launchers; waits for one that a killed snakemake left: no two may write the same files.

    Raises:
        UserError: it waited for two weeks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "launcher.txt").open("a+") as note:
        with suppress(OSError):  # a file system without locks
            _lock(note)
        note.truncate(0)
        print(f"Process {os.getpid()} on {socket.gethostname()}", file=note, end="", flush=True)
        yield


def _lock(note: TextIO) -> None:
    """Raises UserError where another launcher has held it for two weeks: longer than any pseudo-epoch."""
    last, said = time.monotonic() + LONGEST_HELD_S, False
    while True:
        try:
            return fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note.seek(0)
            holder = note.read()
            if time.monotonic() > last:
                raise UserError(f"{holder} has trained here for two weeks. End it, and run again.") from None
            if not said:
                print(f"{holder} trains here already: waiting for its end. SIGTERM to it lets it save first.", file=sys.stderr, flush=True)
            said = True
            time.sleep(1)


def free_port() -> int:
    """A port for rank 0 to listen on, once it has started: below those that the system gives to any connection, which may come first.

    Raises:
        UserError: none of a hundred is free.
    """
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.SystemRandom().sample(range(LOWEST_PORT, first_given), 100):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise UserError(f"No port between {LOWEST_PORT} and {first_given} is free for the processes to find one another.")


def run_here(command: list[str], processes: int, folder: Path) -> int:
    """Run `processes` of `command` on this machine; the first status that is not 0, after which the others are stopped.

    Rank 0 writes where this process does, each other rank to a log in `folder`, as on Slurm: its end is shown where that rank failed first.
    """
    port = free_port()
    ranks: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: object) -> None:
        for rank in ranks:
            rank.send_signal(number)

    for stop in STOPS:
        signal.signal(stop, pass_on)
    with ExitStack() as logs:
        for number in range(processes):
            log = logs.enter_context(log_of(folder, HERE, number).open("wb")) if number else None
            environment = os.environ | rank_environment(number, processes, number, "127.0.0.1", port)
            ranks.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent))
            # a signal that comes meanwhile finds those before
    while (statuses := [rank.poll() for rank in ranks]).count(None) and not any(statuses):
        time.sleep(0.1)
    end(ranks)
    failed = {number: status for number, status in enumerate(statuses) if status}
    unheard = next((number for number, status in failed.items() if number and status not in STOPPED_BY), None)
    if unheard:
        print(f"Rank {unheard} ended with status {failed[unheard]}. {tail(folder, HERE, unheard)}", file=sys.stderr, flush=True)
    return next(iter(failed.values()), 0)


def end(ranks: "list[subprocess.Popen[bytes]]") -> None:
    """Stop those that still run, which may be saving; kill one that waits for ever for another."""
    for rank in ranks:
        rank.terminate()
    last = time.monotonic() + PATIENCE_S
    for number, rank in enumerate(ranks):
        try:
            rank.wait(max(0, last - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"Rank {number} did not end within {PATIENCE_S:.0f} s of being asked to: killing it.", file=sys.stderr, flush=True)
            rank.kill()
            rank.wait()


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

    `gpus` and `mem_mb` are a node's, `cpus` a process's; `folder` has notes of the launcher and logs of ranks. Exits with the status of a
    rank that fails here.
    """
    if nodes:
        run_on_slurm(command, Placement(nodes, processes, gpus, cpus, mem_mb, runtime_min, partition, account), folder)
    else:
        with alone(folder):
            status = run_here(command, processes, folder)
        if status:
            sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    run(launch)
