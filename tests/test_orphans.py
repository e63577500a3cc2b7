"""What is interrupted takes its children with it, those of its shells, too."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil

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
