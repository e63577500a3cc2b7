"""The launcher and its Slurm job: what it asks for, finds again, says and ends. Scripts stand in for Slurm's commands."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from submitit.core.utils import cloudpickle_dump

from microtome.errors import UserError
from microtome.slurm_launch import Placement, find, follow, read_note, results, run_on_slurm, submit, wait_for

PLACE = Placement(nodes=2, processes=3, gpus=4, cpus=5, mem_mb=6000, runtime_min=70, partition="long", account="lab")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with commands of Slurm that know no job and take none, first on the path; the folder for jobs is `jobs` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("squeue", "sbatch", "srun"):
        command(name, "true")
    command("scancel", 'echo "$@" >> cancelled')
    (tmp_path / "jobs").mkdir()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def command(name: str, does: str) -> None:
    Path(name).write_text(f"#!/bin/sh\n{does}\n")
    Path(name).chmod(0o755)


def end_of_rank(jobs: Path, rank: int, outcome: str) -> None:
    cloudpickle_dump((outcome, None), jobs / f"7_{rank}_result.pkl")


def test_the_job_asks_for_its_place(slurm: Path) -> None:
    command("sbatch", "echo Submitted batch job 42")
    assert submit(["train"], PLACE, slurm / "jobs") == "42"
    asked = {line.split(" ", 1)[1] for line in (slurm / "jobs/42_submission.sh").read_text().splitlines() if line.startswith("#SBATCH")}
    assert asked >= {"--nodes=2", "--ntasks-per-node=3", "--gres=gpu:4", "--cpus-per-task=5", "--mem=6000M", "--time=70"}
    assert asked >= {"--partition=long", "--account=lab", "--requeue", "--open-mode=append", "--signal=USR2@120"}
    assert asked >= {f"--comment={slurm}/jobs", "--job-name=microtome-pretrain"}
    (srun,) = (line.split() for line in (slurm / "jobs/42_submission.sh").read_text().splitlines() if line.startswith("srun "))
    assert srun.index("--cpus-per-task=5") < next(number for number, word in enumerate(srun) if "python" in word)
    submit(["train"], Placement(1, 1, 0, 1, 100, 1, "", ""), slurm / "jobs")
    plain = (slurm / "jobs/42_submission.sh").read_text()
    assert not any(word in plain for word in ("--gres", "--partition", "--account"))


def test_a_job_that_slurm_refuses(slurm: Path) -> None:
    command("sbatch", "echo 'error: invalid partition specified: long' >&2; exit 1")
    said = r"Slurm did not take the job(.|\n)*invalid partition specified: long(.|\n)*Placement\(nodes=2, .*'lab'\)"
    with pytest.raises(UserError, match=said):
        submit(["train"], PLACE, slurm / "jobs")


def test_what_was_added_to_a_log_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    assert follow(log, 0) == 0
    log.write_bytes(b"step 1\n")
    position = follow(log, 0)
    assert (position, capfd.readouterr().err) == (7, "step 1\n")
    log.write_bytes(b"step 1\nstep \xff\n")
    assert (follow(log, position), capfd.readouterr().err) == (14, "step \N{REPLACEMENT CHARACTER}\n")


def test_ranks_that_have_ended(slurm: Path) -> None:
    assert results("7", slurm / "jobs", 3) == {}
    end_of_rank(slurm / "jobs", 0, "success")
    end_of_rank(slurm / "jobs", 2, "error")
    assert results("7", slurm / "jobs", 3) == {0: True, 2: False}


def test_the_job_of_a_launcher_that_was_killed_is_found_and_waited_for(slurm: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = slurm / "jobs"
    assert (find(jobs), read_note(jobs)) == ("", ("", ""))
    command("squeue", f"echo '7|RUNNING|{slurm}|{jobs}'")
    command("sbatch", "touch second")
    for rank in range(6):
        end_of_rank(jobs, rank, "success")
    (jobs / "7_0_log.err").write_text("the last step\n")
    run_on_slurm(["train"], PLACE, jobs)
    assert capfd.readouterr().err == "Slurm job 7 is there already: waiting for it.\nthe last step\n"
    assert not (slurm / "second").exists()
    assert not (jobs / "job.txt").exists()


def test_a_noted_job_is_found_where_the_queue_lost_its_comment(slurm: Path) -> None:
    (slurm / "jobs/job.txt").write_text("7\nhost 1")
    command("squeue", """case "$*" in *--jobs*) echo 'RUNNING|None';; esac""")
    assert find(slurm / "jobs") == "7"
    command("squeue", """case "$*" in *--jobs*) echo 'COMPLETED|None';; esac""")
    assert find(slurm / "jobs") == ""


def test_a_rank_that_fails_ends_the_job_and_shows_its_log(slurm: Path) -> None:
    jobs = slurm / "jobs"
    command("sbatch", "echo Submitted batch job 7")
    command("squeue", """case "$*" in *--jobs*) [ -f cancelled ] && echo 'CANCELLED|' || echo 'FAILED|NonZeroExitCode';; esac""")
    end_of_rank(jobs, 1, "error")
    (jobs / "7_1_log.err").write_text("microtome: the reason")
    with pytest.raises(UserError, match=r"Rank 1 of Slurm job 7 failed \(its state: FAILED\)(.|\n)*microtome: the reason"):
        run_on_slurm(["train"], PLACE, jobs)
    assert not (jobs / "job.txt").exists()


def test_a_second_launcher_takes_over_and_the_first_leaves_the_job_alone(slurm: Path) -> None:
    (slurm / "jobs/job.txt").write_text("7\nhost 2")
    with pytest.raises(SystemExit, match=r"^Another launcher follows Slurm job 7 now\.$"):
        wait_for("7", slurm / "jobs", 6, "host 1")
    assert not (slurm / "cancelled").exists()


def test_a_launcher_that_is_stopped_lets_its_job_save_before_it_ends_it(slurm: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = slurm / "jobs"
    command("sbatch", "echo Submitted batch job 7")
    command(
        "squeue", f"""case "$*" in *--jobs*) [ -f cancelled ] && grep -q ^7 cancelled || echo 'RUNNING|None'; kill {os.getpid()};; esac"""
    )
    command("scancel", f'[ "$1" = 7 ] && ls {jobs} > there; touch {jobs}/7_0_result.stopped; echo "$@" >> cancelled')
    with pytest.raises(SystemExit, match=r"Stopped by signal 15\."):
        run_on_slurm(["train"], PLACE, jobs)
    assert (slurm / "cancelled").read_text() == "--signal=TERM 7\n7\n"
    assert "7_0_result.stopped" in (slurm / "there").read_text()
    assert "Waiting for Slurm job 7 to save, 80 s at most.\nEnding Slurm job 7" in capfd.readouterr().err
    assert not (jobs / "job.txt").exists()
