"""[dag_423k]: `snakemake -n` of the published experiment over 423,563 slides, in CPU seconds, beside the obvious way, a job a slide.

With no results yet; `done_s` and `done_memory_mb` with all of them there (empty files, with what Snakemake notes of each).
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import row
from tests.paper_scale import SLIDES, dry_run, stand_in, write_cohort

PLAIN_SHARE = 100  # a job a slide is tried on a hundredth of the slides, and taken to grow no faster than they do


def a_job_a_slide(folder: Path) -> float:
    """Seconds of the dry run with as many shards as slides, for a hundredth of the slides."""
    slides = SLIDES // PLAIN_SHARE
    write_cohort(folder, max(slides, 4000))
    (folder / "shards.json").write_text(json.dumps({"cohort": {"shards": slides}}))
    return dry_run(folder, folder / "shards.json")[0]


def main() -> list[dict[str, Any]]:
    """Seconds and peak memory on one core."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as plain:
        write_cohort(Path(ours))
        seconds, peak_mb, printed = dry_run(Path(ours))
        files = stand_in(Path(ours))
        done_s, done_mb, nothing = dry_run(Path(ours))
        notes_b = sum(path.stat().st_size for path in Path(ours, ".snakemake").rglob("*"))
        plain_s = a_job_a_slide(Path(plain)) * PLAIN_SHARE
    if "Nothing to be done" not in nothing:
        raise RuntimeError(nothing)
    jobs = max(int(line.split()[1]) for line in printed.splitlines() if line.startswith("total"))
    notes = {"jobs": jobs, "plain": f"a job a slide, {PLAIN_SHARE} times a hundredth of the slides"}
    notes |= {"done_s": round(done_s, 1), "done_memory_mb": round(done_mb), "files": files, "notes_b": notes_b}
    return [row("dag_423k", round(seconds, 1), "s", round(plain_s), round(plain_s / seconds, 1), 1, peak_memory_mb=peak_mb, **notes)]
