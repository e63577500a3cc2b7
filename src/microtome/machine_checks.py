"""Checks of the machine on which `doctor` runs: Python, packages, GPUs, OpenSlide, open files, room and rights."""

import importlib
import os
import re
import resource
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from microtome.findings import Finding, ask, some
from microtome.plan import size

PYTHON = (3, 11)
LOCK = Path(__file__).parents[2] / "envs" / "requirements.lock"
OPEN_FILES = 1024  # a loader process keeps 256 tars open, beside the mapped indexes of the shards


def python(minimum: tuple[int, int] = PYTHON) -> Finding:
    """Its version."""
    found, wanted = sys.version.split()[0], ".".join(map(str, minimum))
    if sys.version_info < minimum:
        return Finding("wrong", f"Python {found}, {wanted} or later is needed", f"install Python {wanted}, delete .venv, `make install`")
    return Finding("ok", f"Python {found}, {sys.executable}")


def packages(lock: Path = LOCK) -> Finding:
    """What is installed against the lock; `2.13.0+cpu` is 2.13.0."""
    pinned = re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE)
    found = {name: _version(name) for name, _ in pinned}
    missing = [name for name, _ in pinned if found[name] is None]
    other = [f"{name} {found[name]} (locked: {locked})" for name, locked in pinned if found[name] not in (None, locked)]
    remedy = "`make install`, and `source .venv/bin/activate`"
    if missing:
        return Finding("wrong", f"packages missing: {some(missing)}", remedy)
    if other:
        return Finding("warning", f"packages of another version: {some(other)}", remedy)
    return Finding("ok", f"{len(pinned)} packages as in {lock.name}")


def _version(name: str) -> str | None:
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return None


def gpus() -> Finding:
    """Those that nvidia-smi sees, and whether torch can use them."""
    listed = ask("nvidia-smi", "--list-gpus")
    seen = [line for line in (listed or "").splitlines() if line.startswith("GPU ")]
    if not seen:
        return Finding("ok", "no GPU on this machine (a login node?): run `make doctor` on a GPU node, too")
    import torch

    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if usable < len(seen):
        remedy = "install the CUDA build of torch that the driver can run (`nvidia-smi` names its CUDA), and look at CUDA_VISIBLE_DEVICES"
        return Finding("wrong", f"nvidia-smi lists {len(seen)} GPUs, torch {torch.__version__} can use {usable}", remedy)
    return Finding("ok", f"{usable} GPUs, torch {torch.__version__}: {torch.cuda.get_device_name(0)}")


def openslide() -> Finding:
    """Whether its library loads."""
    try:
        module = importlib.import_module("openslide")
    except (ImportError, OSError) as error:
        return Finding("wrong", f"OpenSlide does not load: {' '.join(str(error).split())}", "`make install` brings it (openslide-bin)")
    return Finding("ok", f"OpenSlide {module.__library_version__}")


def open_files(needed: int = OPEN_FILES) -> Finding:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        remedy = f"`ulimit -n {needed}` before the run" if hard >= needed else "ask the administrator (limits.conf), on the nodes, too"
        return Finding("wrong", f"a process may have {soft:,} files open, {needed:,} are needed", remedy)
    return Finding("ok", f"a process may have {soft:,} files open")


def writable(folder: Path) -> Finding:
    """Whether results can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "wrong", f"{folder}: cannot be written: {error.strerror}", "see to its rights, or run in a folder of your own (`make init`)"
        )
    return Finding("ok", f"{folder} can be written")


def room(folder: Path, need_b: float, need_files: int, largest: str) -> Finding:
    """Free bytes and inodes against the plan's; `largest`: the stages that take most of them."""
    there = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    free_b, disk = shutil.disk_usage(there).free, os.statvfs(there)
    found = f"{size(free_b)} free, the plan needs {size(need_b)}"
    if free_b < need_b:
        return Finding("wrong", f"{there}: {found}", f"make room, or ask for less: the largest are {largest}")
    if disk.f_files and disk.f_favail < need_files:  # some file systems state none
        return Finding(
            "wrong", f"{there}: {disk.f_favail:,} inodes free, the plan needs {need_files:,} files", "ask for a larger file quota"
        )
    return Finding("ok", f"{there}: {found}; a quota may be less")
