"""A row of `benchmarks/bench.json`: ours, the obvious alternative on the same input in the same run, and their ratio."""

import platform
import resource
import time
from collections.abc import Callable
from typing import Any


def row(name: str, value: float, unit: str, plain_value: float, ratio: float, cores: int, **notes: Any) -> dict[str, Any]:
    """One row. `ratio` says how many times better ours is (rates: ours / plain; times: plain / ours)."""
    peak_mb = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    measured = {"name": name, "value": value, "unit": unit, "plain_value": plain_value, "ratio": ratio, "cores": cores}
    return {**measured, "peak_memory_mb": round(notes.pop("peak_memory_mb", peak_mb), 1), "machine": platform.machine(), **notes}


def seconds(function: Callable[[], Any]) -> float:
    """The wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
