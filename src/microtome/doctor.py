"""Before a run: is this machine, this project and this cluster fit for it? One line a check, with what to do about it.

    make doctor CONFIG="config/paper.yaml" PROFILE=slurm

Ends with status 1 when something is wrong. Run it on the login node, and on a GPU node.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from microtome import machine_checks, project_checks, slurm_checks
from microtome.command_line import run
from microtome.config import Config
from microtome.errors import UserError
from microtome.findings import Finding
from microtome.plan import largest, needed, plural
from microtome.project import Profile, read_config
from microtome.stages import CATALOG, read_cohort, stages_of

RESULTS = Path("results")


def machine() -> Iterator[Finding]:
    """What does not depend on the project."""
    yield machine_checks.python()
    yield machine_checks.packages()
    yield machine_checks.gpus()
    yield machine_checks.openslide()
    yield machine_checks.open_files()
    yield machine_checks.writable(RESULTS)


def project(configfile: list[Path]) -> Iterator[Finding]:
    """The configuration and what it names; what depends on a part that is wrong is not looked at."""
    try:
        config = read_config(configfile)
    except UserError as error:
        first, *others = str(error).splitlines()
        yield Finding("wrong", f"{first} {'; '.join(line.strip() for line in others)}", "tables, encoders and room were not looked at")
        return
    yield Finding("ok", "the configuration is valid")
    yield project_checks.hub(config)
    fault, slides = project_checks.slide_table(config)
    if fault:
        yield fault
        return
    yield project_checks.slide_paths(config, slides)
    if machine_checks.openslide().level == "ok":
        yield from project_checks.slide_resolutions(config, slides)
    yield project_checks.shard_folders(config, len(slides))
    tasks = project_checks.task_tables(config, slides)
    yield tasks
    yield enough_room(config) if tasks.level == "ok" else Finding("warning", "room was not looked at", "see to the tasks first")


def enough_room(config: Config) -> Finding:
    """Room for the plan's stages; tissue and tiles are there already where there is a catalog."""
    stages = [stage for stage in stages_of(config, read_cohort(config, 0)) if not (CATALOG.is_file() and stage.rule in ("tissue", "tiles"))]
    return machine_checks.room(RESULTS, *needed(stages), largest(stages))


def cluster(name: str, configfile: list[Path]) -> Iterator[Finding]:
    """The profile, and the cluster it speaks of."""
    try:
        profile = Profile.named(name)
    except UserError as error:
        yield Finding("wrong", str(error), "`make init` makes a folder that has the profiles; or name one: PROFILE=profiles/local")
        return
    yield Finding("ok", f"profile {name}: {profile.file}")
    yield project_checks.executor(profile.slurm)
    yield from project_checks.processes(configfile, profile)
    if profile.slurm:
        yield slurm_checks.partitions(profile)
        yield slurm_checks.preemption(profile)
        yield slurm_checks.accounts(profile)
        yield slurm_checks.job_age(profile)


def doctor(configfile: list[Path] = [], profile: str = "slurm") -> None:  # noqa: B006
    """Check everything, with the overlays and the profile of the run to come."""
    levels = []
    for checks in (machine(), project(configfile), cluster(profile, configfile)):
        for finding in checks:
            print(finding.line(), flush=True)
            levels.append(finding.level)
    print(f"\n{levels.count('wrong')} wrong, {plural(levels.count('warning'), 'warning')}, {levels.count('ok')} ok")
    sys.exit("wrong" in levels)


if __name__ == "__main__":
    run(doctor)
