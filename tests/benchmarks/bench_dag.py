"""[dag_423k]: `snakemake -n` of the published experiment over 423,563 slides, beside the obvious way: a job a slide."""

import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import row
from tests.paper_scale import dry_run, write_cohort


def main() -> list[dict[str, Any]]:
    """Seconds and memory. The plain value is not measured: a DAG of 847,126 slide jobs does not fit into the memory of these machines."""
    with tempfile.TemporaryDirectory() as name:
        write_cohort(Path(name))
        seconds, peak_mb, printed = dry_run(Path(name))
    jobs = max(int(line.split()[1]) for line in printed.splitlines() if line.startswith("total"))
    return [row("dag_423k", round(seconds, 1), "s", None, None, 1, peak_memory_mb=peak_mb, jobs=jobs)]
