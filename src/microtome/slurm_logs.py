"""Where Slurm's log of a job stands: `<rule>/<wildcards>/<job>.log` in the profile's `slurm-logdir`, as pretraining's launcher has it, too.

The executor plugin (2.8.0) would write `rule_<rule>`.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path, PosixPath
from typing import Any


class LogFolder(PosixPath):
    """A folder in which the plugin's `rule_<rule>` is `<rule>`."""

    def __truediv__(self, name: Any) -> "LogFolder":
        return LogFolder(self, str(name).removeprefix("rule_"))


def name_logs_by_rule(workflow: Any) -> None:
    """Before anything starts: have the plugin write its jobs' logs there."""
    if workflow.executor_plugin.name != "slurm":
        return
    plugin: Any = import_module("snakemake_executor_plugin_slurm")
    run_job = plugin.Executor.run_job

    def run_job_with_log(executor: Any, job: Any) -> None:
        executor.slurm_logdir = LogFolder(executor.slurm_logdir)
        run_job(executor, job)

    plugin.Executor.run_job = run_job_with_log


def log_folder(slurm_logs: Path, rule: str, wildcards: Iterable[str]) -> Path:
    """The folder of a job's logs: a file each attempt."""
    return slurm_logs / rule / joined(wildcards)


def joined(wildcards: Iterable[str]) -> str:
    """A job's wildcards as the plugin writes them, in paths and comments."""
    return "_".join(wildcards).replace("/", "_")
