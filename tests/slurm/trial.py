"""One trial on the cluster: a checkout of its own, whose jobs can be held, a snakemake to disturb, and what the queue says."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

from tests.checkout import TEST, Checkout
from tests.slurm.conftest import fit_to_one_machine

TISSUE = "results/tissue/0.parquet"
PRETRAIN = "results/pretrain/mae_tiny/1/state.pt"
RULES = ("--allowed-rules", "cohort", "tissue", "pretrain")  # the schedule is there already
LONGEST_S = 400.0
ALIVE = {"PENDING", "RUNNING", "SUSPENDED", "COMPLETING"}
FREE = float("inf")
# However quick or slow the machine is: a job makes no more slides, and training no more steps, than the file `allowed` says meanwhile.
HELD_SLIDES = """

import pathlib, time
_attempt, _made_here = attempt, 0
def _held(job, *again):
    global _made_here
    while _made_here >= float(pathlib.Path("allowed").read_text()):
        time.sleep(0.1)
    _made_here += 1
    return _attempt(job, *again)
attempt = _held
"""
# Training that was asked to stop goes on, so that it can: after a requeue it is held again.
HELD_STEPS = """

import os, pathlib
_train_on = PseudoEpoch._train_on
def _held(self, batch):
    asked = pathlib.Path(f"asked_{os.environ.get('SLURM_JOB_ID')}_{os.environ.get('SLURM_RESTART_COUNT')}")
    while self.step >= float(pathlib.Path("allowed").read_text()) and not asked.exists():
        if self._asked_to_stop:
            asked.touch()
        time.sleep(0.1)
    return _train_on(self, batch)
PseudoEpoch._train_on = _held
"""


def until(condition: Callable[[], bool], what: str, within_s: float = LONGEST_S) -> None:
    """Wait for `condition`; fail with `what` after `within_s`."""
    last = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < last, f"waited {within_s:.0f} s for {what} in vain"
        time.sleep(0.8)  # each look starts a squeue


def slurm(*command: str) -> str:
    """What a command of Slurm's prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def crash(node: str, job: str) -> None:
    """End a node and all that runs on it of a job, as a power cut does, and have the controller know without waiting for SlurmdTimeout."""

    def kill(condition: Callable[[psutil.Process], bool]) -> None:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if condition(process):
                    process.kill()

    kill(lambda process: process.cmdline() == ["slurmd", "-N", node])
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=crashed")  # before anything can report how it ended
    kill(lambda process: process.cmdline()[:1] == [f"slurmstepd: [{job}.batch]"])
    kill(lambda process: process.environ().get("SLURM_JOB_ID") == job)


class Queued(NamedTuple):
    """A job as squeue shows it; `what` is its rule and wildcards, or its name."""

    job: str
    state: str
    node: str
    what: str


class Trial:
    """A checkout with the drawn slides and a schedule of `prepared`; a job makes `allowed` slides, or steps, and waits for more."""

    def __init__(self, folder: Path, prepared: Path, allowed: float = FREE, **default_resources: object) -> None:
        folder.mkdir()
        self.checkout, self.folder = Checkout(folder, profile="slurm", drawn=False), folder
        (folder / "demo").symlink_to(prepared / "demo")
        (folder / "results").mkdir()
        (folder / "results/schedule").symlink_to(prepared / "schedule")
        self.profile = folder / "profiles/slurm/config.yaml"
        fit_to_one_machine(self.profile)
        values = yaml.safe_load(self.profile.read_text())
        values["default-resources"] |= default_resources
        values["set-resources"]["pretrain"] |= {"nodes": 1}  # two are disturbed by a trial of their own
        self.profile.write_text(yaml.safe_dump(values))
        self.patch("ledger.py", "", HELD_SLIDES)
        self.patch("pseudo_epoch.py", "", HELD_STEPS)
        self.allowed = allowed
        self.before: set[str] = set()  # jobs of an earlier test session in a folder of this name
        self.before = {job.job for job in self.queue()}

    def patch(self, module: str, old: str, new: str) -> None:
        """Replace `old` in a module of the checkout, or add to its end where `old` is empty."""
        path = self.folder / "src/microtome" / module
        text = path.read_text()
        assert old in text, module
        path.write_text(text.replace(old, new) if old else text + new)

    @property
    def allowed(self) -> float:
        return float((self.folder / "allowed").read_text())

    @allowed.setter
    def allowed(self, number: float) -> None:
        (self.folder / "allowed.part").write_text(str(number))
        (self.folder / "allowed.part").replace(self.folder / "allowed")

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(self.folder / "src"),
            "PATH": f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def python(self, *arguments: str) -> "Run":
        """Start python in the checkout."""
        return Run(self, [sys.executable, *arguments])

    def snakemake(self, *arguments: str) -> "Run":
        """Start `snakemake --profile slurm`; the last of `arguments` are behind `--`, the targets. With change.yaml, where there is one."""
        at = arguments.index("--")
        overlays = [*TEST, *(["change.yaml"] if (self.folder / "change.yaml").is_file() else [])]
        return self.python("-m", "snakemake", "--profile", "slurm", *arguments[:at], "--configfile", *overlays, *arguments[at:])

    def unlock(self) -> None:
        """What a person does after SIGKILL."""
        assert self.snakemake("--unlock", "--").end() == 0

    def queue(self) -> list[Queued]:
        """The jobs submitted from this checkout that the controller remembers."""
        lines = slurm("squeue", "--noheader", "--states=all", "--format", "%A|%T|%N|%Z|%k|%j").splitlines()
        rows = [line.split("|") for line in lines]
        return [
            Queued(job, state, node, name if comment in ("", "(null)") else comment)
            for job, state, node, folder, comment, name in rows
            if folder == str(self.folder) and job not in self.before
        ]

    def alive(self, what: str = "") -> list[Queued]:
        """Those that are not over, of one kind."""
        return [job for job in self.queue() if job.state in ALIVE and what in job.what]

    def running(self, what: str) -> Queued:
        """Wait for one running job of a kind."""
        until(lambda: any(job.state == "RUNNING" for job in self.alive(what)), f"a running job {what} in {self.folder}")
        return next(job for job in self.alive(what) if job.state == "RUNNING")

    def slides(self) -> dict[str, int]:
        """The finished slides of the tissue shard, and when they were."""
        return self.checkout.times("results/tissue/0/*.json")

    def at_work(self) -> Queued:
        """Wait until the tissue job has finished the slide that it is allowed to; the job."""
        until(lambda: bool(self.slides()), f"a first slide in {self.folder}")
        return self.running("tissue")


class Run:
    """A process in a trial's checkout, and what it said."""

    def __init__(self, trial: Trial, command: list[str]) -> None:
        self.path = trial.folder / f"said{len(list(trial.folder.glob('said*')))}.txt"
        with self.path.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=trial.folder, env=trial.environment(), stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def said(self) -> str:
        return self.path.read_text()

    def end(self, within_s: float = LONGEST_S) -> int:
        """Wait for the end: the status."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"not over after {within_s:.0f} s:\n{self.said}") from None
