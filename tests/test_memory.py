from pathlib import Path

import pytest

from microtome.memory import free_host_b

GB = 10**9


def tree(folder: Path, own: str, files: dict[str, str]) -> dict[str, Path]:
    (folder / "meminfo").write_text("MemTotal: 99000000 kB\nMemAvailable: 20000000 kB\n")
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"meminfo": folder / "meminfo", "own": folder / "own", "cgroups": folder / "cgroup"}


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 20_480_000_000),  # no limit: what the machine has available
        ("0::/job\n", {"job/memory.max": "max\n"}, 20_480_000_000),
        (  # a step without a limit of its own, in a job that has one; files it has read make room
            "0::/job/step\n",
            {
                "job/step/memory.max": "max\n",
                "job/memory.max": f"{8 * GB}\n",
                "job/memory.current": f"{3 * GB}\n",
                "job/memory.stat": f"anon {GB}\nactive_file {GB}\ninactive_file {GB}\n",
            },
            7 * GB,
        ),
        (  # version 1, in a container that does not see its own path
            "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n",
            {
                "memory/memory.limit_in_bytes": f"{4 * GB}\n",
                "memory/memory.usage_in_bytes": f"{GB}\n",
                "memory/memory.stat": "cache 0\n",
            },
            3 * GB,
        ),
        (
            "4:memory:/\n",
            {"memory/memory.limit_in_bytes": f"{2**63 - 4096}\n", "memory/memory.usage_in_bytes": "1\n", "memory/memory.stat": ""},
            None,
        ),
    ],
)
def test_limits_of_control_groups_count(tmp_path: Path, own: str, files: dict[str, str], expected: int | None) -> None:
    assert free_host_b(**tree(tmp_path, own, files)) == (expected or 20_480_000_000)


def test_here() -> None:
    assert free_host_b() > GB / 10
