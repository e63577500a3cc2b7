"""Slurm jobs that outlive their snakemake: what they record, and which of them end before another run. Scripts stand in for Slurm."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as plugin
from snakemake.exceptions import WorkflowError
from snakemake.iocontainers import Wildcards

from microtome import slurm_queue
from microtome.unattended import comment, end_leftovers
from tests.checkout import ROOT

SNAKEFILE = """
from microtome import slurm_queue
from microtome.unattended import record_here
if not workflow.is_main_process:
    record_here()
rule a:
    output: "a.txt"
    params: setting=17
    shell: "touch {output}"
"""


def job(name: str, local: bool = False, **wildcards: str) -> Any:
    return SimpleNamespace(name=name, is_local=local, wildcards=Wildcards(fromdict=wildcards))


def workflow(*jobs: Any, executor: str = "slurm") -> Any:
    return SimpleNamespace(executor_plugin=SimpleNamespace(name=executor), dag=SimpleNamespace(needrun_jobs=lambda: jobs))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where snakemake runs; its commands of Slurm list what stands in the file `queue`, which scancel empties."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm_queue, "POLL_S", 0.01)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    squeue = 'case "$*" in *--user*) cat queue;; *) grep -q . queue && echo RUNNING;; esac; true'
    for name, does in {"squeue": squeue, "scancel": 'echo "$@" > cancelled; : > queue'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_a_job_on_a_node_records_what_its_files_were_made_from(tmp_path: Path) -> None:
    """As Slurm starts it: a snakemake that is not the main one, whose own may be dead by then."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    as_on_a_node = ["--mode", "remote", "--nolock", "--force", "--cores", "1", "--target-jobs", "a:", "--", "a.txt"]
    command = [sys.executable, "-m", "snakemake", *as_on_a_node]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, check=True)
    (record,) = (tmp_path / ".snakemake" / "metadata").iterdir()
    noted = json.loads(record.read_text())
    assert (noted["rule"], noted["params"], noted["incomplete"]) == ("a", ["17"], False)


@pytest.mark.parametrize("wildcards", [{}, {"shard": "0012"}, {"run": "mae/a", "pseudo_epoch": "3"}])
def test_comments_are_the_executor_plugins(wildcards: dict[str, str]) -> None:
    ours, theirs = job("tissue", **wildcards), plugin.get_job_wildcards(job("tissue", **wildcards))
    written = 'comment_str = f"rule_{job.name}_wildcards_{wildcard_str}"' if theirs else 'comment_str = f"rule_{job.name}"'
    assert written in inspect.getsource(plugin.Executor.run_job)
    assert comment(ours) == (f"rule_tissue_wildcards_{theirs}" if theirs else "rule_tissue")


def test_jobs_that_this_run_would_submit_again_are_ended(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    left = {"1": "rule_tissue_wildcards_0", "2": "rule_tissue_wildcards_1", "3": "rule_cohort", "4": "rule_pretrain_wildcards_a_1"}
    (folder / "queue").write_text("".join(f"{number}|RUNNING|{folder}|{said}\n" for number, said in left.items()))
    wanted = job("tissue", shard="0"), job("cohort"), job("pretrain", local=True, run="a", pseudo_epoch="1"), job("tiles", shard="0")
    end_leftovers(workflow(*wanted))
    assert (folder / "cancelled").read_text() == "1 3\n"
    assert capfd.readouterr().err == "Slurm jobs 1 3 of a run that was killed are still there: cancelling them first.\n"


def test_nothing_is_ended_where_nothing_is_left_or_no_slurm_asked_for(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "queue").write_text(f"1|RUNNING|{folder.parent}|rule_cohort\n")
    end_leftovers(workflow(job("cohort")))
    (folder / "squeue").write_text("#!/bin/sh\nexit 1\n")
    end_leftovers(workflow(job("cohort"), executor="local"))
    assert not (folder / "cancelled").exists()
    assert capfd.readouterr().err == ""
    with pytest.raises(WorkflowError, match="Slurm does not answer, so that jobs of an earlier run may still be there"):
        end_leftovers(workflow(job("cohort")))
