"""What a check of `doctor` found: one line, and what to do where something is wrong."""

import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

PATIENCE_S = 30
Level = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """`wrong` stops a run or spoils it; a `warning` may."""

    level: Level
    what: str
    remedy: str = ""

    def line(self) -> str:
        """As printed."""
        return f"{self.level:<8} {' '.join(self.what.split())}" + (f" -> {self.remedy}" if self.remedy else "")


def ask(*command: str) -> str | None:
    """What a program prints; None where there is no such program, it fails, or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except (subprocess.TimeoutExpired, OSError):  # OSError: a file that is no program of this machine
        return None
    return None if done.returncode else done.stdout


def some(names: list[str], shown: int = 3) -> str:
    """The first of many names."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown:,} more" if len(names) > shown else "")
