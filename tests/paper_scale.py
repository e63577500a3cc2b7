"""A slide table and six task tables of the published size, and `snakemake -n` over them with config/paper.yaml."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
SLIDES, PATIENTS, ORGANS = 423_563, 76_794, 70
PAPER = Path("config/paper.yaml")
TASK_SLIDES = {"mshs_breast": 1998, "mshs_ibd": 1441, "mshs_er": 2000, "mshs_egfr": 294, "mskcc_egfr": 1000, "mskcc_io": 454}


def write_cohort(folder: Path, slides_count: int = SLIDES) -> None:
    """The configuration and its tables, as a user would have them, in an empty working directory."""
    rng = np.random.default_rng(0)
    slides = pd.DataFrame({"slide": [f"S{number:06d}" for number in range(slides_count)]})
    slides["path"] = "/archive/" + slides["slide"].str[1:4] + "/" + slides["slide"] + ".tiff"
    slides["patient"] = [f"P{number:05d}" for number in rng.integers(0, PATIENTS, slides_count)]
    slides["organ"] = [f"organ{number:02d}" for number in np.minimum(rng.zipf(1.5, slides_count) - 1, ORGANS - 1)]
    slides["stain"] = "H&E"
    (folder / "config" / "tasks").mkdir(parents=True)
    slides.to_csv(folder / "config" / "slides.csv", index=False)
    for task, count in TASK_SLIDES.items():
        rows = slides.sample(count, random_state=count).assign(target=lambda rows: np.arange(len(rows)) % 2)
        rows[["slide", "target"]].to_csv(folder / "config" / "tasks" / f"{task}.csv", index=False)
    for name in ("config.yaml", "paper.yaml"):
        (folder / "config" / name).write_text((ROOT / "config" / name).read_text())


def snakemake(folder: Path, *options: str, program: tuple[str, ...] = ("-m", "snakemake")) -> tuple[float, float, str]:
    """Snakemake over config/paper.yaml in `folder`: seconds of CPU time (it uses one core), peak memory in MB, and what it printed."""
    command = [sys.executable, *program, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "1", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(printed)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed


def dry_run(folder: Path, *overlays: Path) -> tuple[float, float, str]:
    """`snakemake -n` in `folder`."""
    return snakemake(folder, "--configfile", str(folder / PAPER), *map(str, overlays), "--dry-run", "--quiet", "rules")


def counts(printed: str) -> dict[str, int]:
    """The jobs of a dry run, by rule."""
    lines = printed.split("Job stats:")[1].split("total")[0].splitlines()[3:]
    return {rule: int(count) for rule, count in (line.split() for line in lines if line)}


def stand_in(folder: Path) -> int:
    """Empty files for all results, and what Snakemake notes of each as of one that its job made. Returns the number of files."""
    options = ["--configfile", str(folder / PAPER)]
    listed = snakemake(folder, *options, "--summary")[2].split("output_file\t")[1].splitlines()[1:]
    results = [folder / line.split("\t")[0] for line in listed if line.startswith("results/")]
    for result in results:
        result.parent.mkdir(parents=True, exist_ok=True)
        result.touch()
    # `--touch` waits 0.1 s a job, so that times differ on coarse file systems
    quick = "import snakemake.executors.touch as t; t.Executor.SLEEPING_TIME = 0; from snakemake.cli import main; main()"
    snakemake(folder, *options, "--touch", "--forceall", "--quiet", "all", program=("-c", quick))
    return len(results)
