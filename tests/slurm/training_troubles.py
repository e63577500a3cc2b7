"""What a cluster does to pretraining, whose Slurm job is its launcher's: trials of `test_troubles.py`."""

import math
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pandas as pd
import torch

from microtome.checkpoint import load_state
from microtome.slurm_launch import wait_for
from microtome.slurm_queue import state
from tests.slurm.trial import FREE, Run, Trial, crash, slurm, until
from tests.training import SILENT, flags, small_settings


def disturbed(folder: Path, prepared: Path) -> None:
    """Pretraining on two nodes is preempted, runs into its time limit and loses a node; its losses are those of undisturbed training."""
    trial = Trial(folder, prepared)
    assert launch(trial, folder / "undisturbed", nodes=0, processes=2).end() == 0
    trial.allowed = 0
    launcher = launch(trial, folder / "disturbed", nodes=2)
    job = trial.running("pretrain")
    two_more_steps(trial)
    first = slurm("squeue", "--noheader", "--jobs", job.job, "--format", "%B").strip()
    slurm("sbatch", "--partition", "urgent", "--nodelist", first, "--exclusive", "--output", "/dev/null", "--wrap", "sleep 1")
    until(lambda: restarts(job.job) == 1, "the job to be requeued after its preemption")
    two_more_steps(trial)
    near_its_limit(job.job)
    until(lambda: restarts(job.job) == 2, "the job to be requeued at its time limit")
    slurm("scontrol", "update", f"jobid={job.job}", "timelimit=20")
    two_more_steps(trial)
    last = slurm("squeue", "--noheader", "--jobs", job.job, "--format", "%B").strip()
    crash(last, job.job)  # for good: two nodes of the partition are left
    until(lambda: restarts(job.job) == 3, "the job to be requeued after its node went down")
    trial.allowed = FREE
    assert launcher.end() == 0, launcher.said
    assert launcher.said.count("Asked to stop at step") == 2
    losses = [pd.read_csv(folder / run / "curve.csv")["loss"] for run in ("disturbed", "undisturbed")]
    pd.testing.assert_series_equal(losses[0], losses[1], check_exact=True)
    ends = [load_state(folder / run / "state.pt")["algorithm"] for run in ("disturbed", "undisturbed")]
    assert all(torch.equal(ends[0][name], value) for name, value in ends[1].items())


def launch(trial: Trial, out: Path, nodes: int, processes: int = 1, account: str = "pathology") -> Run:
    """Start pretraining of a very small model, by its launcher."""
    place = {"nodes": nodes, "processes": processes, "gpus": 0, "cpus": 1, "mem-mb": 3000, "runtime-min": 20}
    words = [word for name, value in place.items() for word in (f"--{name}", str(value))]
    files = {"schedule": trial.folder / "results/schedule/1.arrow", "encoder": out / "encoder.safetensors", "state": out / "state.pt"}
    files |= {"curve": out / "curve.csv", "work": out / "work"}
    how = {"save_every_minutes": 0.02, "max_batch": 16, "max_replaced_tiles": 0, "workers": 1, "compiled": False, "monitor": SILENT}
    training = flags({**files, **how, "pseudo_epoch": 1, "settings": small_settings("mae", global_batch=16)})
    here = ["--folder", str(trial.folder / "pretrain"), *words, "--partition", "preempted", "--account", account]
    return trial.python("-m", "microtome.launch", *here, "--", sys.executable, "-m", "microtome.pretrain", *training)


def two_more_steps(trial: Trial) -> None:
    """Have pretraining go on by two steps, once it runs again, and wait for them."""
    trial.allowed = steps_done(trial.folder) + 2
    trial.running("pretrain")
    until(lambda: steps_done(trial.folder) == trial.allowed, "two more steps")


def near_its_limit(job: str) -> None:
    """Leave a job less time than Slurm's signal comes ahead (2 min), so that it comes at Slurm's next look, and enough for saving."""
    began = slurm("squeue", "--noheader", "--jobs", job, "--format", "%S").strip()
    run_s = (datetime.now() - datetime.fromisoformat(began)).total_seconds()
    slurm("scontrol", "update", f"jobid={job}", f"timelimit={math.ceil((run_s + 75) / 60)}")


def steps_done(folder: Path) -> int:
    """By the growing curve of disturbed training."""
    curve = folder / "disturbed/work/curve.csv"
    return len(curve.read_text().splitlines()) - 1 if curve.is_file() else 0


def restarts(job: str) -> int:
    """How often Slurm has requeued the job."""
    return int(re.findall(r"Restarts=(\d+)", slurm("scontrol", "show", "job", job))[0])


def late_result(folder: Path, prepared: Path) -> None:
    """The same for pretraining's launcher, which waits for the ranks' results: it sees its folder through copies that come late."""
    trial, here = Trial(folder, prepared), folder / "seen"
    here.mkdir()
    place = "Placement(nodes=1, processes=1, gpus=0, cpus=1, mem_mb=1000, runtime_min=5, partition='cpu', account='pathology')"
    script = f"import pathlib; from microtome.slurm_launch import *; print(submit(['true'], {place}, pathlib.Path('pretrain')))"
    submission = trial.python("-c", script)
    assert submission.end() == 0, submission.said
    job = submission.said.strip()
    (here / "job.txt").write_text(f"{job}\nme")

    def copy_late() -> None:
        until(lambda: state(job)[0] == "COMPLETED", "the end of the job")
        time.sleep(15)
        for path in (folder / "pretrain").glob(f"{job}_0_*"):
            shutil.copy(path, here)

    with ThreadPoolExecutor(1) as pool:
        copied = pool.submit(copy_late)
        started = time.monotonic()
        wait_for(job, here, 1, "me")
        assert time.monotonic() - started > 15
        copied.result()
