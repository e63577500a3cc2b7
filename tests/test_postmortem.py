"""After a failed run a page says what failed, why, and how to go on; after the next run starts it is gone."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_executor_plugin_slurm.utils import get_job_wildcards

from microtome.postmortem import IN_FULL, FailedJob, failed_jobs, failed_slides, page, remedy, tail
from microtome.retries import retries
from tests.checkout import Checkout


def test_a_failed_run_leaves_a_page_and_the_next_one_removes_it(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, drawn=False)
    (tmp_path / "slides.csv").write_text("slide,path,patient,organ\n" + "".join(f"s{i},nowhere/{i}.tiff,p{i},lung\n" for i in range(3)))
    change = {"slides": "slides.csv", "cohort": {"shards": 1, "exclude_patients": None}, "tasks": {"texture": None}}
    (tmp_path / "change.yaml").write_text(json.dumps(change))
    files = ["--configfile", "config/demo.yaml", "config/test.yaml", "change.yaml"]
    command = ["-m", "snakemake", "--profile", "profiles/local", *files, "--", "results/tiles/0.parquet"]
    done = checkout.python(*command)
    written = tmp_path / "logs/failure.md"
    assert done.returncode != 0
    assert f"1 job failed. Which, why, and how to go on: {written}" in done.stderr
    text = written.read_text()
    assert text.startswith("# 1 job failed, 1 job did not run\n")
    assert "## tissue shard=0\n\n3 slides failed:\n\n- `s0`: no such file: nowhere/0.tiff" in text
    assert "The end of `logs/tissue/0.log`:" in text
    assert "3 of 3 slides failed; max_failed_fraction" in text
    assert f"cd {tmp_path}\nsnakemake {' '.join(command[2:])}\n" in text

    checkout.snakemake("results/cohort/attrition.csv", "--forcerun", "cohort", change=change)
    assert not written.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slurmstepd: error: Detected 1 oom_kill event", "raise `mem_mb` of rule tiles"),
        (
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***",
            "raise `runtime` (minutes) of rule tiles",
        ),
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("sbatch: error: invalid partition specified: gpu", "`make doctor`"),
        ("sbatch: error: CPU count per node can not be satisfied", "No node has what rule tiles asks for"),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", "No node has what"),
        ("ValueError: something new", ""),
    ],
)
def test_a_known_cause_has_its_remedy(text: str, expected: str) -> None:
    found = remedy("tiles", text)
    assert expected in found
    assert bool(found) == bool(expected)


def test_a_tail_is_short_and_without_progress_bars(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_bytes(b"line\n" * 5000 + b"x" * 999 + b"\n10 %\r20 %\r30 %\nthe \xff reason\n\n")
    assert tail(log).split("\n")[-2:] == ["30 %", "the � reason"]
    assert len(tail(log)) < 400


def test_slurms_log_is_found_where_the_executor_writes_it(tmp_path: Path) -> None:
    job = SimpleNamespace(
        is_group=lambda: False,
        rule=SimpleNamespace(name="features"),
        wildcards=["dino@1", "07"],
        wildcards_dict={"encoder": "dino@1", "shard": "07"},
        params={},
        log=[str(tmp_path / "none.log")],
    )
    folder = tmp_path / "features" / get_job_wildcards(job)  # what the executor itself names it
    folder.mkdir(parents=True)
    for number in (7, 8):  # the first attempt, and the last
        (folder / f"{number}.log").write_text("slurmstepd: error: Detected 1 oom_kill event\n")
        os.utime(folder / f"{number}.log", (number, number))
    group = SimpleNamespace(is_group=lambda: True, jobs=[job])
    for jobs in ([job], [group]):
        (found,) = failed_jobs(jobs, tmp_path, 0)
        assert found == FailedJob("features", {"encoder": "dino@1", "shard": "07"}, (folder / "8.log",))
    assert "raise `mem_mb` of rule features" in page([found], 0, "snakemake", ["x.log"], tmp_path)


def test_a_job_that_slurm_refused_has_its_answer_and_no_log_of_an_earlier_run(tmp_path: Path) -> None:
    earlier, own = tmp_path / "gma.log", tmp_path / "snakemake.log"
    earlier.write_text("gated attention: 100%\n")
    own.write_text("sbatch: error: Batch job submission failed: Invalid partition name specified\n" * 4)
    job = SimpleNamespace(
        is_group=lambda: False, rule=SimpleNamespace(name="gma"), wildcards=[], wildcards_dict={}, params={}, log=[str(earlier)]
    )
    began = earlier.stat().st_mtime + 300
    (found,) = failed_jobs([job], tmp_path, began)
    assert found.logs == ()
    text = page([found], 0, "snakemake", [str(own)], tmp_path)
    assert text.count("Invalid partition name specified") == 1
    assert "Slurm does not know the account or partition: `make doctor`" in text
    (found,) = failed_jobs([job], tmp_path, began - 300)
    assert found.logs == (earlier,)


def test_a_run_that_was_stopped_has_no_cause_to_mend(tmp_path: Path) -> None:
    text = page([], 36, "snakemake all", ["x.log"], tmp_path)
    assert text.startswith("# No job failed, 36 jobs did not run\n\nThe run was stopped before its end, as by Ctrl-C")
    assert "cause" not in text


def test_many_failed_jobs_are_still_a_page(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("reason\n" * 50)
    text = page([FailedJob("tiles", {"shard": f"{i:04d}"}, (log,)) for i in range(300)], 2000, "snakemake all", ["x.log"], tmp_path)
    assert text.startswith("# 300 jobs failed, 2,000 jobs did not run")
    assert text.count("The end of") == IN_FULL
    assert f"## {300 - IN_FULL} jobs more" in text
    assert f"- tiles shard=0299: `{log}`" in text


def test_failed_slides_are_those_of_the_shard(tmp_path: Path) -> None:
    folder = tmp_path / "tiles" / "07"
    folder.mkdir(parents=True)
    for slide, status in {"a": "ok", "b": "failed"}.items():
        (folder / f"{slide}.json").write_text(json.dumps({"inputs": {}, "row": {"slide": slide, "status": status, "reason": "torn"}}))
    with retries(folder, ["a", "b"]):
        pass  # leaves a note of its own in the folder
    assert failed_slides(FailedJob("tiles", {"shard": "07"}, ()), tmp_path) == {"b": "torn"}
    assert failed_slides(FailedJob("gma", {"task": "a", "encoder": "b"}, ()), tmp_path) == {}
