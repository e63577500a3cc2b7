"""Slurm's logs of a rule stand in a folder of its name; that the executor writes them there is seen on the cluster."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as plugin
from snakemake_executor_plugin_slurm.utils import get_job_wildcards

from microtome.slurm_logs import LogFolder, log_folder, name_logs_by_rule

JOB = SimpleNamespace(wildcards=["uni/2@1", "07"], is_group=lambda: False)


def test_a_rules_logs_stand_in_a_folder_of_its_name(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path) / "rule_tissue" / get_job_wildcards(JOB)
    assert folder == log_folder(tmp_path, "tissue", JOB.wildcards) == tmp_path / "tissue/uni_2@1_07"
    assert LogFolder(tmp_path) / "group_a" == tmp_path / "group_a"
    log = folder / "7.log"
    log.parent.mkdir(parents=True)
    log.touch()
    assert list(LogFolder(tmp_path).rglob("*.log")) == [log]  # as the executor looks for old ones


def test_the_executor_has_that_folder_when_it_submits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "self.slurm_logdir / group_or_rule / wildcard_str" in inspect.getsource(plugin.Executor.run_job)
    seen: list[Any] = []
    monkeypatch.setattr(plugin.Executor, "run_job", lambda executor, job: seen.append((executor.slurm_logdir, job)))
    name_logs_by_rule(SimpleNamespace(executor_plugin=SimpleNamespace(name="local")))
    executor = SimpleNamespace(slurm_logdir=tmp_path)
    plugin.Executor.run_job(executor, JOB)
    name_logs_by_rule(SimpleNamespace(executor_plugin=SimpleNamespace(name="slurm")))
    plugin.Executor.run_job(executor, JOB)
    assert [type(folder) is LogFolder for folder, _ in seen] == [False, True]
    assert {(str(folder), job is JOB) for folder, job in seen} == {(str(tmp_path), True)}
