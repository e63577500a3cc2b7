"""The rule `pretrain`: train one pseudo-epoch of one run, going on from the pseudo-epoch before.

While it trains, `work` holds the last two states and the growing curve; the same command after a kill goes on from there, exactly. The
declared files appear at the end, by rename; `work` keeps a second name of the last state, and the one before, until the next pseudo-epoch
begins. Started by torchrun or Slurm as several processes, these share each global batch.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from microtome import __version__, resume
from microtome.atomic import sweep_parts
from microtome.checkpoint import DamagedStateError, checksum, keep_end, save_encoder, save_state
from microtome.command_line import run
from microtome.dino import DinoAlgorithm
from microtome.distributed import Processes, processes
from microtome.errors import UserError
from microtome.loader import steps_in
from microtome.mae import MaeAlgorithm
from microtome.pseudo_epoch import PseudoEpoch
from microtome.recipes import Dino, Monitor
from microtome.settings import PretrainSettings
from microtome.software import changed, commit
from microtome.trainer import Trainer
from microtome.training_schedules import Length


def build_algorithm(settings: PretrainSettings, length: Length) -> DinoAlgorithm | MaeAlgorithm:
    """The algorithm of a recipe: the place to add a third one."""
    if isinstance(settings.recipe, Dino):
        return DinoAlgorithm(settings.recipe, settings.run, length, settings.seed)
    return MaeAlgorithm(settings.recipe, settings.run, length, settings.seed)


def job_of(
    settings: PretrainSettings, schedule: Path, previous: Path | None, pseudo_epoch: int, work: Path, events: Path | None = None
) -> resume.Job:
    """What is to be trained, with the texts that a state must match. Raises UserError where the schedules of rates end before it."""
    batch = settings.run.global_batch
    length = Length(steps_in(schedule, batch), settings.run.schedule_epochs)
    if pseudo_epoch > length.schedule_epochs:
        raise UserError(f"Pseudo-epoch {pseudo_epoch} is beyond the {length.schedule_epochs} of the run's schedule_epochs.")
    with schedule.open("rb") as file:
        digests = [hashlib.file_digest(file, "sha256").hexdigest()]
    if previous is not None and previous.is_file():
        try:
            digests.append(checksum(previous))
        except DamagedStateError:
            digests.append(resume.DAMAGED)  # a state in `work` may still finish the pseudo-epoch; else it is an error with a remedy
    return resume.Job(pseudo_epoch, schedule, batch, length, work, settings.json_text(), " ".join(digests), events)


def card(settings: PretrainSettings, algorithm: DinoAlgorithm | MaeAlgorithm, job: resume.Job) -> dict[str, Any]:
    """What the released encoder says of itself."""
    recipe = settings.recipe
    steps = job.number * job.length.steps_per_epoch
    return {
        "model": settings.run.model,
        "img_size": algorithm.crop_px,
        "mean": recipe.mean,
        "std": recipe.std,
        "pooling": algorithm.pooling,
        "recipe": recipe.model_dump(mode="json"),
        "run": settings.run.model_dump(mode="json"),
        "seed": settings.seed,
        "pseudo_epoch": job.number,
        "steps": steps,
        "tiles_seen": steps * job.global_batch,
        "schedule_sha256": job.inputs.split()[0],
        "microtome": __version__,
        "commit": commit(),
        "code_changed": changed(),
    }


def begin(job: resume.Job, trainer: Trainer, monitor: Monitor, max_replaced: int, previous: Path | None) -> PseudoEpoch:
    """The pseudo-epoch at its newest state, else at the end of the one before, else anew. The state read is not kept in memory."""
    return PseudoEpoch(job, trainer, monitor, max_replaced, *resume.beginning(job, previous, trainer.processes.rank))


def pretrain(
    schedule: Path,
    pseudo_epoch: int,
    encoder: Path,
    state: Path,
    curve: Path,
    work: Path,
    save_every_minutes: float,
    max_batch: int,
    max_replaced_tiles: int,
    workers: int,
    compiled: bool,
    monitor: Monitor,
    settings: PretrainSettings,
    previous: Path | None = None,
    events: Path | None = None,
) -> None:
    """Train pseudo-epoch `pseudo_epoch` on the tiles of `schedule`. Only `settings` and the tiles determine the weights.

    `events`: folder of TensorBoard events of the whole run.

    Raises:
        UserError: the state before is damaged or of another run; and all that `PseudoEpoch.train` raises.
    """
    job = job_of(settings, schedule, previous, pseudo_epoch, work, events)

    def train(team: Processes) -> None:
        algorithm = build_algorithm(settings, job.length).to(team.device)
        trainer = Trainer(algorithm, team, settings.run.precision, settings.run.global_batch, compiled)
        epoch = begin(job, trainer, monitor, max_replaced_tiles, previous)
        if previous is not None and team.rank == 0:
            shutil.rmtree(previous.parent / work.name, ignore_errors=True)  # that pseudo-epoch is finished for Snakemake, too
        if team.rank == 0:
            sweep_parts(work)
            for output in (encoder, state, curve):
                sweep_parts(output.parent, output.name)
        with epoch.heeding_stops():
            epoch.train(60 * save_every_minutes, max_batch, workers)
            if team.rank == 0:
                epoch.curve.write(curve)
                save_encoder(encoder, algorithm.encoder, card(settings, algorithm, job))
                save_state(state, epoch.state())
                keep_end(work, epoch.step, state)

    with processes() as team:
        train(team)  # a function: nothing that knows the group may outlive it


if __name__ == "__main__":
    run(pretrain)
