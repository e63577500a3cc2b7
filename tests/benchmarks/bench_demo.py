"""[demo_seconds]: what `make demo` does after the install, in a fresh checkout, beside the same on one core."""

import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import row, seconds
from tests.checkout import Checkout


def demo_seconds(cores: int) -> float:
    """Draw the cohort and run everything on it."""
    with tempfile.TemporaryDirectory() as name:
        checkout = Checkout(Path(name), drawn=False)

        def demo() -> None:
            drawn = checkout.python("-m", "microtome.demo", "--folder", "demo")
            assert drawn.returncode == 0, drawn.stderr
            checkout.snakemake("all", "--cores", str(cores), overlays=("config/demo.yaml",))

        return seconds(demo)


def main() -> list[dict[str, Any]]:
    """Two cores beside one."""
    ours, plain = demo_seconds(2), demo_seconds(1)
    return [row("demo_seconds", round(ours), "s", round(plain), round(plain / ours, 2), 2)]
