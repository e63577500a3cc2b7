"""Where a pseudo-epoch starts: at the newest whole state in its work folder, else at the end of the pseudo-epoch before, else anew."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microtome.checkpoint import DamagedStateError, load_state, rolling_states
from microtome.errors import UserError
from microtome.training_schedules import Length


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


def unfinished(job: Job) -> tuple[dict[str, Any], Path] | None:
    """The newest whole state of this very job in its work folder. What is damaged or of another job is named and passed over."""
    for path in rolling_states(job.work):
        try:
            state = load_state(path)
        except DamagedStateError as error:
            print(f"microtome: {error}: damaged; the state before it is used.", file=sys.stderr, flush=True)
            continue
        if (state["settings"], state["inputs"]) == (job.settings, job.inputs):
            return state, path
        print(f"microtome: {path} is of another recipe, schedule or previous pseudo-epoch: not used.", file=sys.stderr, flush=True)
    return None


def end_of(previous: Path, job: Job, load: Callable[[Path], dict[str, Any]] = load_state) -> dict[str, Any]:
    """The state at the end of the pseudo-epoch before, as `load` reads it.

    Raises:
        UserError: it is not there, damaged, of another recipe or of another pseudo-epoch.
    """
    remedy = f"Remove it (rm {previous}) and run the same command again: that pseudo-epoch is then trained again."
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
