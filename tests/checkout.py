"""A fresh copy of the project with a drawn cohort of its own, on which the tests run the workflow."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEST = ("config/demo.yaml", "config/test.yaml")
TWO_PROCESSES = ("--set-resources", "pretrain:processes=2")  # train, as on the two nodes of the tests' cluster: the same sums of gradients
PROJECT = ["Snakefile", "rules", "src", "config", "envs", "profiles"]


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without what Python compiled."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def counted(printed: str) -> dict[str, int]:
    """The jobs, by rule, in what a dry run printed."""
    stats = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", printed, re.DOTALL)
    return {rule: int(count) for rule, count in (line.split() for line in stats.group(1).splitlines())} if stats else {}


def why_no_cluster() -> str:
    """Why the tests bring up no Slurm cluster here; nothing where they do."""
    if not (os.environ.get("CI") == "true" or os.environ.get("MICROTOME_SLURM") == "1"):
        return "installs Slurm on this machine: set MICROTOME_SLURM=1 (or CI=true) to run it"
    return "" if os.geteuid() == 0 else "a Slurm cluster is set up by root"


class Checkout:
    """The copy; `profile` is what its runs use; `drawn`: with the tests' small cohort; `made`: it is in the folder already."""

    def __init__(self, folder: Path, profile: str = "profiles/local", drawn: bool = True, made: bool = False) -> None:
        self.folder, self.profile = folder, profile
        if made:
            return
        folder.mkdir(exist_ok=True)
        for name in PROJECT:
            copy(ROOT / name, folder / name)
        (folder / "slurm").symlink_to("profiles/slurm")
        if drawn:
            self.python("-m", "microtome.demo", "--folder", "demo", "--slides", "12", "--size", "0.5")

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        environment["CUDA_VISIBLE_DEVICES"] = ""  # on CPUs runs are compared byte for byte
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def snakemake(self, target: str, *options: str, change: dict[str, object] | None = None, overlays: tuple[str, ...] = TEST) -> str:
        """Run the workflow with a `change` of the configuration over the overlays; what it printed."""
        files = list(overlays)
        if change is not None:
            (self.folder / "change.yaml").write_text(json.dumps(change))
            files.append("change.yaml")
        return self.run_snakemake("--profile", self.profile, *options, "--configfile", *files, "--", target)

    def run_snakemake(self, *arguments: str) -> str:
        """Run a command line of Snakemake's; what it printed."""
        done = self.python("-m", "snakemake", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def jobs(self, change: dict[str, object] | None = None) -> dict[str, int]:
        """The jobs that a run would do now, counted by rule."""
        return counted(self.snakemake("all", "--dry-run", "--quiet", "rules", change=change))

    def times(self, pattern: str) -> dict[str, int]:
        """When each file that matches was last written."""
        return {str(path.relative_to(self.folder)): path.stat().st_mtime_ns for path in sorted(self.folder.glob(pattern))}
