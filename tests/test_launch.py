"""Processes that train together on one machine: they find one another, and one that fails fails all."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from microtome.errors import UserError
from microtome.launch import alone, free_port

MEET = """
import torch.distributed
torch.distributed.init_process_group("gloo")
total = torch.ones(1) * (int(os.environ["RANK"]) + 1)
torch.distributed.all_reduce(total)
torch.distributed.destroy_process_group()  # its threads would crash the interpreter's end now and then
print("sum", int(total))
"""
SLEEP = """
import signal
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(7))
print("here", flush=True)
time.sleep(60)
"""
END = "print('here')"
FAIL = f"if os.environ['RANK'] == '1': {END}; sys.exit(3){SLEEP}"


def launch(folder: Path, processes: int, ranks: str) -> "subprocess.Popen[str]":
    place = ["--nodes", "0", "--processes", str(processes), "--gpus", "0", "--cpus", "1", "--mem-mb", "100", "--runtime-min", "1"]
    command = [sys.executable, "-m", "microtome.launch", "--folder", str(folder), *place, "--partition", "", "--account", ""]
    python = [sys.executable, "-c", f"import os, sys, time\n{ranks}"]
    return subprocess.Popen([*command, "--", *python], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def both_are_here(process: "subprocess.Popen[str]", folder: Path) -> None:
    """Wait until two ranks that will sleep are ready for a signal."""
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    log, last = folder / "here_1_log.err", time.monotonic() + 60
    while not log.is_file() or log.read_text() != "here\n":
        assert time.monotonic() < last
        time.sleep(0.02)


def test_ranks_find_one_another(tmp_path: Path) -> None:
    done = launch(tmp_path, 2, MEET)
    assert done.communicate(timeout=60) == ("sum 3\n", "")  # rank 0's
    assert done.returncode == 0
    assert (tmp_path / "here_1_log.err").read_text() == "sum 3\n"


def test_a_rank_that_fails_stops_the_others(tmp_path: Path) -> None:
    start = time.monotonic()
    done = launch(tmp_path, 2, FAIL)
    said = done.communicate(timeout=60)[1]
    assert done.returncode == 3
    assert said == f"Rank 1 ended with status 3. The end of its log {tmp_path}/here_1_log.err:\nhere\n\n"
    assert time.monotonic() - start < 40  # rank 0 would have slept for a minute


DEAF = """
if [ $RANK = 0 ]; then trap '' TERM; touch deaf; exec sleep 60; fi
until [ -e deaf ]; do sleep 0.02; done
exit 3
"""


def test_a_rank_that_does_not_end_is_killed(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from microtome import launch; launch.PATIENCE_S = 1; "
    script += f"sys.exit(launch.run_here(['bash', '-c', {DEAF!r}], 2, Path()))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    asked, ended = done.stderr.splitlines()[:2]
    assert asked == "Rank 0 did not end within 1 s of being asked to: killing it."
    assert ended == "Rank 1 ended with status 3. The end of its log here_1_log.err:"


@pytest.mark.parametrize(("signal", "status"), [("USR2", 7), ("TERM", 143)])
def test_signals_reach_the_ranks(tmp_path: Path, signal: str, status: int) -> None:
    process = launch(tmp_path, 2, SLEEP)
    both_are_here(process, tmp_path)
    subprocess.run(["kill", f"-{signal}", str(process.pid)], check=True)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == status
    assert ("ended with status" in said) == (signal == "USR2")  # 7 is no status of a rank that was asked to stop


def test_ranks_end_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    process = launch(tmp_path, 2, SLEEP)
    both_are_here(process, tmp_path)
    ranks = psutil.Process(process.pid).children()
    process.kill()
    process.communicate(timeout=30)
    assert len(ranks) == 2
    assert not psutil.wait_procs(ranks, timeout=10)[1]


def test_a_second_launcher_waits_for_the_first(tmp_path: Path) -> None:
    first = launch(tmp_path, 1, SLEEP)
    assert first.stdout is not None
    assert first.stdout.readline() == "here\n"
    second = launch(tmp_path, 1, END)
    assert second.stderr is not None
    assert re.fullmatch(rf"Process {first.pid} on \S+ trains here already: waiting for its end. .*\n", second.stderr.readline())
    assert not psutil.Process(second.pid).children()
    first.terminate()
    first.communicate(timeout=30)
    assert second.communicate(timeout=60)[0] == "here\n"
    assert second.returncode == 0


def test_waiting_for_another_launcher_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microtome.launch.LONGEST_HELD_S", -1.0)
    with (
        alone(tmp_path),
        pytest.raises(UserError, match=rf"Process {os.getpid()} on .* has trained here for two weeks. End it"),
        alone(tmp_path),
    ):
        pass


def test_the_port_of_rank_0_is_none_that_any_connection_may_get() -> None:
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(20)]
    assert all(10_000 <= port < first_given for port in ports)
    assert len(set(ports)) > 10
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", ports[0]))
        listening.listen()
