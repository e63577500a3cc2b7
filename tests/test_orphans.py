"""What is interrupted takes its children with it, those of its shells, too."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SCRIPT = """
import subprocess, sys
from microtome.orphans import end_children_on_interrupt
end_children_on_interrupt()
child = subprocess.Popen(["bash", "-c", "sleep 300; true"])
print(child.pid, flush=True)
child.wait()
"""


def test_sigint_to_one_process_ends_its_children(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    shell = psutil.Process(int(process.stdout.readline()))
    while not (children := shell.children()):
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    _, alive = psutil.wait_procs([shell, *children], timeout=30)
    assert not alive


HELPER = """
import multiprocessing, os, sys, time
from microtome.orphans import heed_parent_alone, stops_held
def helper():
    heed_parent_alone()
    time.sleep(300)
child = multiprocessing.get_context("fork").Process(target=helper)
with stops_held():
    child.start()
print(child.pid, flush=True)
if sys.stdin.readline() == "die":
    os._exit(1)
child.terminate()
child.join()
sys.exit(child.exitcode)
"""


@pytest.mark.parametrize(("word", "status"), [("end", 0), ("die", 1)])
def test_a_helper_ends_at_its_parents_word_or_death_alone(word: str, status: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", HELPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    helper = psutil.Process(int(process.stdout.readline()))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP):
        helper.send_signal(number)  # at once: there is no moment in which it would die of them
    while any(int(line.split()[1], 16) for line in Path(f"/proc/{helper.pid}/status").read_text().splitlines() if line[:7] == "ShdPnd:"):
        time.sleep(0.01)
    assert helper.is_running()
    process.communicate(word, timeout=30)
    assert process.returncode == status
    assert not psutil.wait_procs([helper], timeout=30)[1]


@pytest.mark.parametrize(("command", "heeded"), [(["nohup"], False), (["env", "--default-signal=HUP"], True)])
def test_a_closed_terminal_asks_to_stop_unless_nohup_was_asked_for(command: list[str], heeded: bool) -> None:
    script = "import signal; from microtome.orphans import STOPS; print(signal.SIGHUP in STOPS)"
    done = subprocess.run([*command, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{heeded}\n"
