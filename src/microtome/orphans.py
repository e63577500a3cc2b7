"""Worker processes must not outlive a job that was killed: nobody would ever give them work again, or end them."""

import ctypes
import os
import signal
import sys
from multiprocessing import parent_process

PR_SET_PDEATHSIG = 1  # Linux: a signal to this process when its parent dies


def die_with_parent() -> None:
    """Have this process killed when its parent dies (on Linux; elsewhere nothing happens). Call it first in a new process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = parent_process()
        if parent is not None and os.getppid() != parent.pid:  # it died before
            os._exit(1)
