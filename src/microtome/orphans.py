"""Processes must not outlive what started them: nobody would ever give them work again, or end them. Nor may helpers die before their
process has saved, where a signal that asks it to stop goes to all of them.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process

import psutil

PR_SET_PDEATHSIG = 1  # Linux: a signal to this process when its parent dies
# Signals that ask to stop, and go to whole groups: scancel and preemption, Ctrl-C, Slurm's time limit
STOPS: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup was not asked for
    STOPS += (signal.SIGHUP,)  # the terminal was closed


def die_with_parent() -> None:
    """Have this process killed when its parent dies (on Linux; elsewhere nothing happens). Call it first in a new process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = parent_process()
        if parent is not None and os.getppid() != parent.pid:  # it died before
            os._exit(1)


@contextmanager
def stops_held() -> Iterator[None]:
    """Hold back `STOPS` while helpers are forked: they inherit that, and no moment is left in which one would die of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS if sys.platform == "linux" else ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def heed_parent_alone() -> None:
    """Have this process end when its parent says so (by a signal of `STOPS`) or dies; the same signals from others do nothing (on Linux).

    Call it first in a helper that was started inside of `stops_held`.
    """
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        threading.Thread(target=_end_when_parent_says_so, daemon=True).start()
    die_with_parent()


def _end_when_parent_says_so() -> None:
    if sys.platform == "linux":
        while signal.sigwaitinfo(STOPS).si_pid != os.getppid():
            pass
        os._exit(0)


def end_children_on_interrupt() -> None:
    """Have SIGINT to this process end its children, too (SIGTERM), as Ctrl-C at a terminal does. Call it in the main thread.

    Without this Snakemake (9.27) waits for its local jobs, for the days that a pseudo-epoch may take.
    """

    def interrupted(number: int, frame: object) -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)
