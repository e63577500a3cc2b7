"""Where a pseudo-epoch starts: at the newest whole state in its work folder, else at the end of the pseudo-epoch before, else anew."""

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microtome.checkpoint import DamagedStateError, checksum, load_state, rolling_states
from microtome.distributed import gathered
from microtome.errors import UserError
from microtome.training_schedules import Length

DAMAGED = "damaged"  # in place of the digest of a state before that cannot be read
STALE = "Run again when this node sees what the others see."


@dataclass(frozen=True)
class Job:
    """What one pseudo-epoch is: its number, its data, and the texts that tell whether a state belongs to it."""

    number: int
    schedule: Path
    global_batch: int
    length: Length
    work: Path
    settings: str  # of seed, run and recipe, as JSON
    inputs: str  # digests of the schedule and of the state before
    events: Path | None = None  # the folder of the run's TensorBoard events, if they are wanted


def beginning(job: Job, previous: Path | None, rank: int) -> tuple[dict[str, Any] | None, Path | None]:
    """The state from which every process goes on (None: anew), and its file if it is of this pseudo-epoch.

    Rank 0 looks, and the others take what it found: a node may see a folder as it was a while ago, and would train from another step.

    Raises:
        UserError, in every process: one of them cannot read that state, or reads other bytes than rank 0; and all that `end_of` raises.
    """
    found = unfinished(job) if rank == 0 else None
    chosen, written, inputs = gathered((found[1], checksum(found[1]), job.inputs) if found else (None, "", job.inputs))[0]
    state, problem = found[0] if found else None, ""
    try:
        if job.inputs != inputs:
            raise UserError(f"{job.schedule}, or the end of the pseudo-epoch before, has not the bytes here that rank 0 reads. {STALE}")
        if chosen and rank:
            state = _same(chosen, written)
        elif not chosen and previous:
            state = end_of(previous, job)
    except UserError as error:
        problem = str(error) if rank == 0 else f"Rank {rank} on {socket.gethostname()}: {error}"
    if problems := [text for text in gathered(problem) if text]:
        raise UserError(problems[0])
    return state, chosen


def _same(path: Path, written: str) -> dict[str, Any]:
    """The state that rank 0 goes on from, which has the checksum `written`."""
    try:
        state = load_state(path)
        if checksum(path) == written:
            return state
        why = "it is another one"
    except (OSError, DamagedStateError) as error:
        why = str(error)
    raise UserError(f"Rank 0 goes on from {path}, which cannot be read here: {why}. {STALE}")


def unfinished(job: Job) -> tuple[dict[str, Any], Path] | None:
    """The newest whole state of this very job in its work folder. What is damaged or of another job is named and passed over."""
    for path in rolling_states(job.work):
        try:
            state = load_state(path)
        except DamagedStateError as error:
            print(f"microtome: {error}: damaged, not used.", file=sys.stderr, flush=True)
            continue
        if state["settings"] == job.settings and _same_inputs(state["inputs"], job.inputs):
            print(f"microtome: going on from {path}.", file=sys.stderr, flush=True)
            return state, path
        print(f"microtome: {path} is of another recipe, schedule or previous pseudo-epoch: not used.", file=sys.stderr, flush=True)
    return None


def _same_inputs(of_state: str, now: str) -> bool:
    """Digests of schedule and state before. Where that is damaged by now, the state has gone on from it when it was whole."""
    return of_state == now or now.split() == [of_state.split()[0], DAMAGED]


def end_of(previous: Path, job: Job, load: Callable[[Path], dict[str, Any]] = load_state) -> dict[str, Any]:
    """The state at the end of the pseudo-epoch before, as `load` reads it.

    Raises:
        UserError: it is not there, damaged, of another recipe or of another pseudo-epoch.
    """
    remedy = f"Remove it (rm {previous}) and run the same command again: that pseudo-epoch then goes on from its last whole state."
    if not previous.is_file():
        raise UserError(f"{previous}: no such state. Pseudo-epoch {job.number} goes on from that of pseudo-epoch {job.number - 1}.")
    try:
        state = load(previous)
    except DamagedStateError as error:
        raise UserError(f"{error}: truncated or damaged. {remedy}") from None
    for what, found, expected in (
        ("the pseudo-epoch", state["pseudo_epoch"], job.number - 1),
        ("the steps of a pseudo-epoch", state["steps_per_epoch"], job.length.steps_per_epoch),
        ("seed, run and recipe", state["settings"], job.settings),
    ):
        if found != expected:
            raise UserError(f"{previous}: {what}: found {found}, expected {expected}. {remedy}")
    return state
