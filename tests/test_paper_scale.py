"""The published experiment, 423,563 slides, as a dry run: its jobs, and that planning them fits into minutes and memory."""

import os
from pathlib import Path

import pytest

from tests.paper_scale import dry_run, stand_in, write_cohort


def test_the_published_experiment_can_be_planned(tmp_path: Path) -> None:
    write_cohort(tmp_path)
    seconds, peak_mb, printed = dry_run(tmp_path)
    jobs = dict(line.split() for line in printed.split("Job stats:")[1].split("total")[0].splitlines()[3:] if line)
    counts = {rule: int(count) for rule, count in jobs.items()}
    assert (counts["tissue"], counts["tiles"]) == (1024, 1024)
    assert (counts["schedule"], counts["pretrain"]) == (50, 25 + 50)
    encoders = 7 + 7 + 3
    assert (counts["features"], counts["gma"], counts["splits"]) == (64 * encoders, 6 * encoders, 6)
    assert (counts["quality_sample"], counts["quality"]) == (1, encoders + 2)
    assert seconds < 60
    assert peak_mb < 2000


@pytest.mark.skipif("MICROTOME_SOAK" not in os.environ, reason="a minute for the stand-ins of 5,018 results: make soak")
def test_soak_with_all_results_there_nothing_is_to_be_done(tmp_path: Path) -> None:
    write_cohort(tmp_path)
    assert stand_in(tmp_path) > 4000
    seconds, peak_mb, printed = dry_run(tmp_path)
    assert "Nothing to be done" in printed
    assert seconds < 60
    assert peak_mb < 2000
