"""A folder for a project of its own, so that several cohorts use one installation: configuration, tables to fill in, profiles.

    make init FOLDER=/archive/breast

Its Snakefile includes this installation's, and results, logs and Snakemake's notes stay in the folder. The code is not copied: what
changes here changes for every project.
"""

import json
import shlex
import shutil
import sys
from pathlib import Path

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.errors import UserError

HOME = Path(__file__).parents[2]
COPIED = ["config/config.yaml", "config/campanella2023.yaml", "config/opal2024.yaml", "config/slides.csv", "config/tasks/example.csv"]
COPIED += ["profiles/local", "profiles/slurm", ".gitignore"]
SNAKEFILE = '''"""A project of microtome's; its rules are those of the installation. Results, logs and benchmarks stay in this folder."""


include: {snakefile}


workflow.default_target = "all"  # of plain `snakemake`, too
'''
MAKEFILE = """# `make doctor`, `make plan`: for this project. CONFIG="overlay.yaml …" PROFILE=slurm; of plan: SLIDES=400000
plan: SIZE = $(if $(SLIDES),--slides $(SLIDES))
doctor plan:
	@{python} -m microtome.$@ $(if $(CONFIG),--configfile $(CONFIG)) $(if $(PROFILE),--profile $(PROFILE)) $(SIZE)
.PHONY: doctor plan
"""
NEXT = """A project in {folder}. To go on:

  cd {folder}
  source {home}/.venv/bin/activate
  $EDITOR config/slides.csv config/tasks/example.csv config/config.yaml    # your slides, what is to be predicted, every setting
  $EDITOR profiles/slurm/config.yaml                                       # the lines marked EDIT; or profiles/local for one machine
  python -m microtome.doctor --profile slurm                               # is everything there?
  python -m microtome.plan --profile slurm                                 # what will it need? For few slides it says what to lower
  snakemake --profile profiles/local -- results/catalog/summary.md         # first look at results/tissue/*/_contact_sheet.jpg
  snakemake --profile slurm -n all                                         # what would be done? A table counts the jobs
  snakemake --profile slurm all
"""


def init(folder: Path) -> None:
    """Lay out a new project in an empty folder, and say what to do next.

    Raises:
        UserError: the folder is not empty, or no folder.
    """
    if folder.is_dir() and (found := sorted(path.name for path in folder.iterdir())):
        raise UserError(f"{folder} is not empty: it has {', '.join(found[:5])}. Expected an empty folder, or one that is not there yet.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is no folder. Expected an empty folder, or one that is not there yet.")
    folder = folder.resolve()
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (HOME / name).is_dir() else shutil.copy)(HOME / name, folder / name)
    (folder / "slurm").symlink_to("profiles/slurm")  # where `--profile slurm` is looked for
    write_text(folder / "Snakefile", SNAKEFILE.format(snakefile=json.dumps(str(HOME / "Snakefile"))))
    write_text(folder / "Makefile", MAKEFILE.format(python=f"PYTHONPATH={shlex.quote(str(HOME / 'src'))} {shlex.quote(sys.executable)}"))
    print(NEXT.format(folder=shlex.quote(str(folder)), home=shlex.quote(str(HOME))), end="")


if __name__ == "__main__":
    run(init)
