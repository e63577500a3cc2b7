"""What goes wrong on a cluster, on a real one: each trouble is a trial in a checkout of its own, some at a time."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.checkout import Checkout
from tests.slurm.training_troubles import disturbed, late_result, launch, restarts
from tests.slurm.trial import FREE, PRETRAIN, RULES, TISSUE, Trial, crash, slurm, until


def cancelled(folder: Path, prepared: Path, **resources: object) -> None:
    """A job that is scancelled fails its run, which says so; nothing looks finished; the same command makes only what is left."""
    trial = Trial(folder, prepared, allowed=1, **resources)
    run = trial.snakemake("--retries", "0", "--", TISSUE)
    job = trial.at_work()
    slurm("scancel", job.job)
    assert run.end() == 1
    assert f"SLURM-job '{job.job}' failed, SLURM status is: 'CANCELLED'" in run.said
    assert "## tissue shard=0\n" in failure_page(folder)
    assert not (folder / TISSUE).exists()
    done = trial.slides()
    trial.allowed = FREE
    assert trial.snakemake("--", TISSUE).end() == 0
    assert done.items() <= trial.slides().items()
    check_tissue(folder, prepared)


def interrupted(folder: Path, prepared: Path) -> None:
    """SIGINT to snakemake alone, not to its process group as from a terminal, ends its Slurm jobs, pretraining's, too."""
    trial = Trial(folder, prepared, allowed=1)
    run = trial.snakemake(*RULES, "--", TISSUE, PRETRAIN)
    trial.at_work(), trial.running("pretrain")
    os.kill(run.process.pid, signal.SIGINT)
    until(lambda: not trial.alive("tissue"), "the end of the tissue job")
    until(lambda: not trial.alive(), "an empty queue")
    assert run.end() == 1
    assert "No job failed. The run was stopped before its end" in run.said
    log = folder / "logs/pretrain/mae_tiny/1.log"
    until(lambda: "Stopped by signal 15" in log.read_text(), "the launcher's last word")
    assert not (folder / TISSUE).exists()
    assert not (folder / PRETRAIN).exists()
    assert not list(folder.glob("logs/slurm/pretrain/mae_tiny/1/job.txt"))
    trial.allowed = FREE
    assert trial.snakemake(*RULES, "--", TISSUE, PRETRAIN).end() == 0
    check_tissue(folder, prepared)


def killed(folder: Path, prepared: Path) -> None:
    """After SIGKILL the same command ends the job that was left before it starts another; pretraining goes on.

    What jobs finish after snakemake and launcher were both killed counts: it is not made again, unless a setting changes.
    """
    trial = Trial(folder, prepared, allowed=1)
    run = trial.snakemake(*RULES, "--", TISSUE, PRETRAIN)
    left, pretraining = trial.at_work(), trial.running("pretrain")
    run.process.kill()
    run.end()
    done = trial.slides()
    trial.unlock()
    run = trial.snakemake(*RULES, "--", TISSUE, PRETRAIN)
    most = 0

    def another_job() -> bool:
        nonlocal most
        jobs = [job for job in trial.alive("tissue") if job.state == "RUNNING"]
        most = max(most, len(jobs))
        return any(job.job != left.job for job in jobs)

    until(another_job, "a second tissue job")
    assert most == 1
    assert f"Slurm jobs {left.job} of a run that was killed are still there: cancelling them first." in run.said
    log = folder / "logs/pretrain/mae_tiny/1.log"
    until(lambda: f"Slurm job {pretraining.job} is there already: waiting for it." in log.read_text(), "the second launcher")
    os.killpg(run.process.pid, signal.SIGKILL)  # as when the login node goes down
    run.end()
    trial.allowed = FREE
    until(lambda: not trial.alive(), "the end of the jobs that were left")
    assert [job.job for job in trial.queue() if "pretrain" in job.what] == [pretraining.job]
    assert done.items() <= trial.slides().items()
    check_tissue(folder, prepared)
    made = trial.checkout.times(TISSUE)
    losses = pd.read_csv(folder / "results/pretrain/mae_tiny/1/curve.csv")
    assert (folder / PRETRAIN).is_file()
    trial.unlock()
    trial.allowed = 0  # it could not train again
    run = trial.snakemake(*RULES, "--", TISSUE, PRETRAIN)
    assert run.end() == 0, run.said
    assert trial.checkout.times(TISSUE) == made
    pd.testing.assert_frame_equal(pd.read_csv(folder / "results/pretrain/mae_tiny/1/curve.csv"), losses)
    until(lambda: not list(folder.glob("logs/slurm/pretrain/mae_tiny/1/job.txt")), "the end of all launchers")
    (folder / "change.yaml").write_text("tissue: {blur_px: 7}")
    changed = trial.snakemake("--dry-run", "--", TISSUE)
    assert changed.end() == 0
    assert "Params have changed since last execution" in changed.said


def out_of_memory_and_time(folder: Path, prepared: Path) -> None:
    """A job that Slurm kills for its memory, or ends at its time limit, comes back with more of both, as the profile says, and keeps the
    slides that were done; so does pretraining, a job of its launcher's, with more memory.
    """
    trial = Trial(folder, prepared, allowed=1, mem_mb="1200 * attempt", runtime="10 * attempt")
    values = yaml.safe_load(trial.profile.read_text())
    values["set-resources"]["pretrain"] |= {"mem_mb": "1200 * attempt"}
    trial.profile.write_text(yaml.safe_dump(values))
    main = 'if __name__ == "__main__":'
    for module in ("tissue.py", "pretrain.py"):
        trial.patch(module, main, f'{main}\n    import time\n    ballast = b"x" * (1 << 30)\n    time.sleep(15)\n    del ballast')
    run = trial.snakemake(*RULES, "--", TISSUE, PRETRAIN)
    second, done = trial.at_work(), trial.slides()
    slurm("scontrol", "update", f"jobid={second.job}", "timelimit=1")
    until(lambda: any(job.state == "TIMEOUT" for job in trial.queue()), "the end of the job at its time limit")
    trial.allowed = FREE
    assert run.end() == 0, run.said
    assert f"SLURM-job '{second.job}' failed, SLURM status is: 'TIMEOUT'" in run.said
    assert done.items() <= trial.slides().items()
    check_tissue(folder, prepared)
    for what, logs, times in (("pretrain", "pretrain/mae_tiny/1/{job}_*", 2), ("tissue", "tissue/0/{job}.log", 3)):
        jobs = sorted((job.job for job in trial.queue() if what in job.what), key=int)
        said = "".join(path.read_text(errors="replace") for path in (folder / "logs/slurm").glob(logs.format(job=jobs[0])))
        assert "exceeded memory limit" in said, what
        assert [asked(job, "%m") for job in jobs] == ["1200M", "2400M", "3600M"][:times]
    assert asked(jobs[-1], "%l") == "30:00"


def preempted_and_node_down(folder: Path, prepared: Path) -> None:
    """A job that a more urgent one preempts is requeued by Slurm, not failed, and keeps the slides that were done; so it is on another node
    where its own goes down.
    """
    trial = Trial(folder, prepared, allowed=1, slurm_partition="yielding")
    run = trial.snakemake("--retries", "0", "--", TISSUE)
    job, done = trial.at_work(), trial.slides()
    slurm("sbatch", "--partition", "urgent", "--nodelist", job.node, "--exclusive", "--output", "/dev/null", "--wrap", "sleep 1")
    until(lambda: restarts(job.job) == 1, "the job to be requeued after its preemption")
    again = trial.running("tissue")
    crash(again.node, job.job)  # for good
    until(lambda: any(other.node not in ("", again.node) for other in trial.alive()), "the job on another node")
    trial.allowed = FREE
    assert run.end() == 0, run.said
    assert [queued.job for queued in trial.queue()] == [job.job]
    assert done.items() <= trial.slides().items()
    check_tissue(folder, prepared)


def refused(folder: Path, prepared: Path) -> None:
    """A job that Slurm does not take ends its run, with Slurm's answer and what helps."""
    trial = Trial(folder, prepared, slurm_partition="nosuch")
    run = trial.snakemake("--retries", "0", "--", TISSUE)
    assert run.end() == 1
    assert "Invalid partition name specified" in failure_page(folder)
    assert "Slurm does not know the account or partition: `make doctor`" in failure_page(folder)


def broken_package(folder: Path, prepared: Path) -> None:
    """A job that dies at import ends its run, with the reason."""
    trial = Trial(folder, prepared)
    trial.patch("tissue_mask.py", "", '\nraise ImportError("libvips.so.42: cannot open shared object file")\n')
    run = trial.snakemake("--retries", "0", "--", TISSUE)
    assert run.end() == 1
    assert "libvips.so.42: cannot open shared object file" in run.said
    assert "libvips.so.42: cannot open shared object file" in failure_page(folder)


def broken_on_the_nodes(folder: Path, prepared: Path) -> None:
    """Pretraining that dies before its first line ends its launcher, with the reason."""
    trial = Trial(folder, prepared)
    (folder / "src/cloudpickle.py").write_text(
        "import os, sys\n"
        'if "SLURM_PROCID" in os.environ:\n    raise ImportError("broken on this node")\n'
        "here = sys.path.pop(0)\ndel sys.modules[__name__]\nimport cloudpickle\nsys.path.insert(0, here)\n"
    )
    launcher = launch(trial, folder / "never", nodes=1)
    assert launcher.end() == 1
    assert "left no result (its state: FAILED). The end of its log" in launcher.said
    assert "ImportError: broken on this node" in launcher.said
    assert not (folder / "pretrain/job.txt").exists()


def silent_controller(folder: Path, prepared: Path) -> None:
    """A controller that does not answer for a while costs no job: what ends meanwhile is seen when it answers again.

    Its files are seen some time later still by the submit host, as over NFS, and waited for.
    """
    trial, silent = Trial(folder, prepared, allowed=1), folder / "silent"
    (folder / "bin").mkdir()
    (folder / "bin/squeue").write_text(f'#!/bin/sh\n[ -e {silent} ] && exit 1\nexec {shutil.which("squeue")} "$@"\n')
    (folder / "bin/squeue").chmod(0o755)
    run = trial.snakemake("--", TISSUE)
    trial.at_work()
    silent.touch()
    until(lambda: "Slurm does not answer; asking again" in run.said, "a word on it")
    trial.allowed = FREE
    until(lambda: not trial.alive(), "the end of the job")
    table, away = folder / TISSUE, folder / "away"
    table.rename(away)
    silent.unlink()
    until(lambda: "Waiting at most 20 seconds for missing files" in run.said, "latency-wait")
    time.sleep(5)
    assert run.process.poll() is None
    away.rename(table)
    assert run.end() == 0, run.said
    check_tissue(folder, prepared)


def asked(job: str, what: str) -> str:
    """A field of a job, also of one that is over."""
    return slurm("squeue", "--noheader", "--states=all", "--jobs", job, "--format", what).strip()


def failure_page(folder: Path) -> str:
    """What the last run left for the person who finds it failed."""
    return (folder / "logs/failure.md").read_text()


def check_tissue(folder: Path, prepared: Path) -> None:
    """The tissue shard is that of an undisturbed run."""
    pd.testing.assert_frame_equal(pd.read_parquet(folder / TISSUE), pd.read_parquet(prepared / TISSUE))
    for path in sorted((prepared / "results/tissue/0").glob("*.geojson")):
        assert (folder / "results/tissue/0" / path.name).read_bytes() == path.read_bytes()
    assert not list((folder / "results/tissue/0").glob(".*.part"))


AT_ONCE = 8  # trials; on few cores more only wait for one another
TROUBLES: list[Callable[[Path, Path], None]] = [
    disturbed,
    out_of_memory_and_time,  # these two wait for Slurm's looks at the time limit
    cancelled,
    interrupted,
    killed,
    preempted_and_node_down,
    refused,
    broken_package,
    broken_on_the_nodes,
    late_result,
    silent_controller,
]


def attempt(trouble: Callable[[Path, Path], None], folder: Path, prepared: Path) -> None:
    """Where a trial fails, what its processes said stands below the reason."""
    try:
        trouble(folder, prepared)
    except Exception as error:
        for path in sorted(folder.glob("said*.txt")):
            error.add_note(f"{path}:\n{path.read_text()[-4000:]}")
        raise


@pytest.fixture(scope="module")
def trials(run_of_all: "Future[Checkout]", prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "Future[None]"]]:
    folder = tmp_path_factory.mktemp("trials")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {trouble.__name__: pool.submit(attempt, trouble, folder / trouble.__name__, prepared) for trouble in TROUBLES}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_trouble(trouble: Callable[[Path, Path], None], trials: dict[str, "Future[None]"]) -> None:
    trials[trouble.__name__].result()
