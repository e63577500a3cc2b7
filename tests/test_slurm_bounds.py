"""Snakemake waits for no Slurm job without a bound and a message, and loses none while Slurm is silent."""

import asyncio
import logging
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin
from snakemake.exceptions import WorkflowError

from microtome import slurm_bounds
from microtome.slurm_bounds import Bounds, wait_with_bounds

DAY = 24 * 3600.0


def looks(*answers: tuple[dict[str, str] | None, float]) -> list[dict[str, str]]:
    """What the plugin sees, look by look, each at its second."""
    bounds = Bounds()
    return [bounds.look(found, now) for found, now in answers]


def test_what_slurm_says_is_passed_on() -> None:
    assert looks(({"1": "RUNNING", "2": "COMPLETED"}, 0), ({"1": "FAILED"}, 9))[0] == {"1": "RUNNING", "2": "COMPLETED"}
    assert looks(({"1": "CANCELLED by 0"}, 0)) == [{"1": "CANCELLED"}]
    assert looks(({"1": "RUNNING"}, 0), ({"1": "COMPLETED"}, 1), ({}, 2), ({}, DAY)) == [{"1": "RUNNING"}, {"1": "COMPLETED"}, {}, {}]


def test_silence_ends_no_job_and_is_said_once_an_hour(capsys: pytest.CaptureFixture[str]) -> None:
    assert looks(({"1": "RUNNING"}, 0), (None, 10), (None, 20), (None, 4000), ({"1": "COMPLETED"}, 5000))[-1] == {"1": "COMPLETED"}
    assert capsys.readouterr().err.count("Slurm does not answer; asking again") == 2
    with pytest.raises(WorkflowError, match=r"did not answer for a day.*The same command goes on"):
        looks((None, 0), (None, DAY + 1))
    looks((None, 0), ({}, DAY - 1), (None, DAY), (None, 2 * DAY - 1))


@pytest.mark.parametrize("word", ["PREEMPTED", "NODE_FAIL"])
def test_a_job_that_is_not_requeued_counts_as_failed(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen = looks(({"1": "RUNNING"}, 0), ({"1": word}, 10), ({"1": word}, 900), ({}, 920), ({}, 930))
    assert seen == [{"1": "RUNNING"}, {"1": word}, {"1": word}, {"1": "FAILED"}, {}]
    assert f"Slurm job 1 ({word}) was not requeued within 15 minutes" in capsys.readouterr().err
    back = (
        ({"1": word}, 10),
        ({"1": "COMPLETING"}, 100),
        ({"1": "PENDING"}, 200),
        ({"1": "PENDING"}, 13 * DAY),
        ({"1": "RUNNING"}, 13 * DAY + 1),
    )
    assert looks(({"1": "RUNNING"}, 0), *back)[-1] == {"1": "RUNNING"}


def test_a_forgotten_job_and_one_that_waits_for_ever_end_the_run() -> None:
    with pytest.raises(WorkflowError, match=r"Slurm does not know job 1, last seen: RUNNING.*MinJobAge"):
        looks(({"1": "RUNNING"}, 0), ({}, 10), ({}, 920))
    with pytest.raises(WorkflowError, match=r"Slurm job 1 waited for two weeks: `squeue --jobs 1"):
        looks(({"1": "PENDING"}, 0), ({"1": "PENDING"}, 14 * DAY + 1))
    with pytest.raises(WorkflowError, match=r"Slurm job 1 did not end for a day: its node does not give it back"):
        looks(({"1": "COMPLETING"}, 0), ({"1": "COMPLETING"}, DAY + 1))


def test_a_job_that_never_shows_ends_the_run_and_one_that_shows_late_does_not() -> None:
    bounds = Bounds()
    bounds.submitted(["1", "2"])
    assert bounds.look({"1": "RUNNING"}, 0) == {"1": "RUNNING"}
    bounds.submitted(["1", "2"])
    assert bounds.look({"1": "COMPLETED", "2": "PENDING"}, 3500)["1"] == "COMPLETED"
    bounds.submitted(["2", "3"])
    assert bounds.look({"2": "COMPLETED"}, 3600) == {"2": "COMPLETED"}
    with pytest.raises(WorkflowError, match=r"Slurm does not know job 3, last seen: never"):
        bounds.look({}, 7201)


def test_the_plugin_asks_by_way_of_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "query_job_status", plugin.query_job_status)
    monkeypatch.setattr(plugin.Executor, "check_active_jobs", plugin.Executor.check_active_jobs)
    wait_with_bounds(SimpleNamespace(executor_plugin=SimpleNamespace(name="local")))
    assert asyncio.run(plugin.query_job_status("false", logging)) == (None, None)
    wait_with_bounds(SimpleNamespace(executor_plugin=SimpleNamespace(name="slurm")))
    assert asyncio.run(plugin.query_job_status("false", logging)) == ({}, 0.0)
    assert asyncio.run(plugin.query_job_status("echo '7|RUNNING'", logging))[0] == {"7": "RUNNING"}
    plugin.Executor.check_active_jobs(None, [SimpleNamespace(external_jobid="9_1")])
    monkeypatch.setattr(slurm_bounds, "UNSEEN_S", -1)
    with pytest.raises(WorkflowError, match="does not know job 9, last seen: never"):
        asyncio.run(plugin.query_job_status("true", logging))
