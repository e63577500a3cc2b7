"""The memory of this process, in MB, as Linux counts it."""

from pathlib import Path


def memory_mb(field: str) -> float:
    """VmRSS: what is held now; VmHWM: the most that was held."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(field)).split()[1]) / 1024


def reset_peak_mb() -> float:
    """Forget the peak of what ran before in this process (VmHWM); what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mb("VmRSS")
