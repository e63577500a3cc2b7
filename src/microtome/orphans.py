"""Processes must not outlive what started them: nobody would ever give them work again, or end them."""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from multiprocessing import parent_process

import psutil

PR_SET_PDEATHSIG = 1  # Linux: a signal to this process when its parent dies


def die_with_parent() -> None:
    """Have this process killed when its parent dies (on Linux; elsewhere nothing happens). Call it first in a new process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = parent_process()
        if parent is not None and os.getppid() != parent.pid:  # it died before
            os._exit(1)


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
