"""The published experiment, 423,563 slides, as a dry run: its jobs, and that planning them fits into minutes and memory."""

import os
from pathlib import Path

import pytest

from tests.paper_scale import PAPER, counts, dry_run, snakemake, stand_in, write_cohort


def test_the_published_experiment_can_be_planned(tmp_path: Path) -> None:
    write_cohort(tmp_path)
    seconds, peak_mb, printed = dry_run(tmp_path)
    jobs = counts(printed)
    assert (jobs["tissue"], jobs["tiles"]) == (1024, 1024)
    assert (jobs["schedule"], jobs["pretrain"]) == (50, 25 + 50)
    encoders = 7 + 7 + 3
    assert (jobs["features"], jobs["gma"], jobs["splits"]) == (64 * encoders, 6 * encoders, 6)
    assert (jobs["quality_sample"], jobs["quality"]) == (1, encoders + 2)
    assert seconds < 60
    assert peak_mb < 2000


@pytest.mark.skipif("MICROTOME_SOAK" not in os.environ, reason="a minute for the stand-ins of 5,018 results: make soak")
def test_soak_with_all_results_there_nothing_is_to_be_done(tmp_path: Path) -> None:
    write_cohort(tmp_path)
    before = counts(dry_run(tmp_path)[2])
    assert stand_in(tmp_path) > 4000
    seconds, peak_mb, printed = dry_run(tmp_path)
    assert "Nothing to be done" in printed
    assert seconds < 60
    assert peak_mb < 2000
    again = snakemake(tmp_path, "--configfile", str(tmp_path / PAPER), "--dry-run", "--quiet", "rules", "--forceall")[2]
    assert counts(again) == before, "no rule was dropped from the graph for an error over its results"
