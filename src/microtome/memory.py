"""How much memory is free, in bytes: of this machine, within what its job may use, and of a GPU; and where a GPU copies from."""

from pathlib import Path

import torch

CGROUPS = Path("/sys/fs/cgroup")


def free_host_b(meminfo: Path = Path("/proc/meminfo"), own: Path = Path("/proc/self/cgroup"), cgroups: Path = CGROUPS) -> int:
    """The least of what the machine has available and what the limits of the control groups of this process (a Slurm job's) leave."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return min([int(fields["MemAvailable"].split()[0]) * 1024, *_left_in_groups(own, cgroups)])


def _left_in_groups(own: Path, cgroups: Path) -> list[int]:
    """What each limit leaves, in version 2 (memory.max) or 1 (memory.limit_in_bytes), of the group and of those above it."""
    left = []
    for line in own.read_text().splitlines():
        _, controllers, name = line.split(":", 2)
        version_2 = not controllers
        if not version_2 and "memory" not in controllers.split(","):
            continue
        root = cgroups if version_2 else cgroups / "memory"
        limit, used = ("memory.max", "memory.current") if version_2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        group = root / name.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (folder / limit).is_file() and (text := (folder / limit).read_text().strip()) != "max":
                left.append(max(int(text) - _held(folder, used), 0))
    return left


def _held(folder: Path, used: str) -> int:
    """What a group holds, without the files it has read, which make room."""
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int((folder / used).read_text()) - int(stat.get("inactive_file", 0)) - int(stat.get("active_file", 0))


def free_device_b(device: torch.device) -> int:
    """What a GPU has free."""
    return int(torch.cuda.mem_get_info(device)[0])


def pinned(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values of the host where `device` can copy them from by itself, so that nothing waits: for a GPU, in pinned memory."""
    return values if device.type == "cpu" or values.is_pinned() else values.pin_memory()
