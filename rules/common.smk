# What the rules share: CONFIG, validated, and JOBS, which knows the shards, encoders and tasks; and what is done before and after a run.
# A value that changes no bytes (workers, a failure limit, a batch size) stands in the command as an f-string: params would rerun for it.
# The slide table is read once, when this is parsed (and each drawn mask asked for its size and time): nothing else here grows with the slides.

import os
import shlex
import shutil
import sys
import time
from pathlib import Path

STARTED = time.time()  # logs from before it are of earlier runs

# Jobs find the package in this checkout, on a cluster node and in a conda environment too.
# By the place of this file: a project's own Snakefile may include ours (`make init`).
HOME = os.path.dirname(workflow.current_basedir.get_path_or_uri(secret_free=True))
SOURCE = os.path.join(HOME, "src")
sys.path.insert(0, SOURCE)
shell.prefix(f"export PYTHONPATH={shlex.quote(SOURCE)}; ")

from microtome.config import load_config
from microtome.errors import UserError
from microtome.jobs import PATIENT_COLUMNS, SLIDE_COLUMNS, Jobs
from microtome.look_behind import look_behind_ancient
from microtome.orphans import end_children_on_interrupt
from microtome.outdated import Outdated
from microtome.postmortem import FAILURE_PAGE, postmortem
from microtome.runs import last_checkpoints
from microtome.slurm_bounds import wait_with_bounds
from microtome.slurm_logs import name_logs_by_rule
from microtome.unattended import end_leftovers, record_here
from snakemake.exceptions import WorkflowError

try:
    CONFIG = load_config(config)
    JOBS = Jobs(CONFIG)
except UserError as error:
    raise WorkflowError(str(error)) from None


if workflow.is_main_process:
    end_children_on_interrupt()
    look_behind_ancient()
else:  # a job on a node is a snakemake of its own, which reads this, too
    record_here()


wildcard_constraints:
    shard=r"\d+",
    pseudo_epoch=r"\d+",
    run=r"[^/]+",
    encoder=r"[^/]+",
    task=r"[^/]+",


def code(*modules):
    """The modules of the package that a cheap rule lists as input, so that a change of code reruns it. Costly rules carry a version."""
    return [os.path.join(SOURCE, "microtome", f"{module}.py") for module in modules]


def in_command(section):
    """A section as JSON in a command, for what changes no bytes and so is no params; braces doubled for Snakemake's formatting."""
    return shlex.quote(section.json_text()).replace("{", "{{").replace("}", "}}")


def checkpoint_flag(encoder, weights):
    """The flag for a run's checkpoint; nothing for other encoders, whose files stand in their settings."""
    return f"--weights {weights}" if "@" in encoder and weights else ""


def previous_state(wildcards):
    """The state that a pseudo-epoch starts from: none for the first."""
    before = int(wildcards.pseudo_epoch) - 1
    return f"results/pretrain/{wildcards.run}/{before}/state.pt" if before else []


# Jobs that use this machine's GPU, where it has one, ask for this much `device`: profiles/local lets one run at a time. Not `gpu`, which the
# Slurm executor would add to `gres`. Looked for without torch: this is read by every job.
DEVICE = int(shutil.which("nvidia-smi") is not None)

# A table that many jobs share is taken by ancient(): when it is written again, only the jobs whose own rows or settings (params) changed run.
COHORT = "results/cohort/slides.parquet"
CATALOG = "results/catalog/slides.parquet"
# Only the main process decides what runs. Tiles at imported coordinates have no digests.
OUTDATED = Outdated(Path("results") if workflow.is_main_process and not CONFIG.features.coords else None)
TASK_TABLES = " ".join(str(task.table) for task in CONFIG.tasks.values())
TISSUE = JOBS.tissue_settings().json_text()
TILES = JOBS.tiles_settings().json_text()
SCHEDULE = JOBS.schedule_settings().json_text()
QUALITY_SAMPLE = JOBS.quality_sample_settings().json_text()
SPLITS = JOBS.splits_settings().json_text()
GMA = JOBS.gma_settings().json_text()
OVERLAYS = f"--configfile {shlex.join(map(os.path.relpath, workflow.overwrite_configfiles))}" if workflow.overwrite_configfiles else ""
FIGURES = [
    "pretraining",
    "convergence",
    "checkpoints",
    "ranking",
    "differences",
    "roc",
    "calibration",
    "quality",
    "pca",
    "balance",
    "overlays",
]
FIGURES += [f"gallery/{run}" for run in CONFIG.pretrain.runs]
FIGURES += [f"attention/{task}" for task in JOBS.tasks]
FIGURES += [f"neighbours/{encoder}" for encoder in last_checkpoints(JOBS.encoders)]
TABLES = ["auc", "differences", "decisions", "excluded", "quality", "methods", "attrition", "cohort", "tasks", "overlap", "shared", "left"]
CAPTIONS = ["workflow", *dict.fromkeys([*(figure.split("/")[0] for figure in FIGURES), *TABLES])]


onstart:
    FAILURE_PAGE.unlink(missing_ok=True)
    end_leftovers(workflow)
    wait_with_bounds(workflow)
    name_logs_by_rule(workflow)


onerror:
    print(postmortem(workflow, FAILURE_PAGE, log, STARTED), file=sys.stderr)
