"""Each check of the machine finds what it is there for, and says how to mend it."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from microtome import machine_checks
from microtome.findings import Finding
from tests.doctor_checks import is_wrong, programs


def test_python_and_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine_checks.python().level == "ok"
    is_wrong(machine_checks.python((99, 0)), "99.0 or later is needed", "make install")
    lock = tmp_path / "requirements.lock"
    (tmp_path / "drawn-2.13.0+cpu.dist-info").mkdir()
    (tmp_path / "drawn-2.13.0+cpu.dist-info" / "METADATA").write_text("Name: drawn\nVersion: 2.13.0+cpu\n")
    monkeypatch.syspath_prepend(tmp_path)
    lock.write_text(f"# from requirements.in\nnumpy=={np.__version__}\ndrawn==2.13.0\n")
    assert machine_checks.packages(lock) == Finding("ok", "2 packages as in requirements.lock")
    lock.write_text("numpy==0.1\n")
    assert machine_checks.packages(lock).level == "warning"
    assert "(locked: 0.1)" in machine_checks.packages(lock).what
    lock.write_text("no-such-package==1.0\nnumpy==0.1\n")
    is_wrong(machine_checks.packages(lock), "packages missing: no-such-package", "make install")


def test_a_gpu_that_torch_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch)
    assert machine_checks.gpus().level == "ok"
    programs(tmp_path, monkeypatch, **{"nvidia-smi": "\n".join(f"GPU {i}: NVIDIA A100" for i in range(99))})  # more than this machine has
    is_wrong(machine_checks.gpus(), "nvidia-smi lists 99 GPUs, torch", "CUDA build of torch")


def test_openslide_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine_checks.openslide().level == "ok"
    monkeypatch.setitem(sys.modules, "openslide", None)
    is_wrong(machine_checks.openslide(), "OpenSlide does not load", "make install")


def test_open_files_rights_and_room(tmp_path: Path) -> None:
    assert machine_checks.open_files(8).level == "ok"
    is_wrong(machine_checks.open_files(10**12), "are needed", "administrator")
    assert machine_checks.writable(tmp_path / "results").level == "ok"
    (tmp_path / "file").write_text("")
    is_wrong(machine_checks.writable(tmp_path / "file" / "results"), "cannot be written", "make init")
    assert machine_checks.room(tmp_path / "not" / "yet", 1, 1, "").level == "ok"
    is_wrong(
        machine_checks.room(tmp_path, 1e18, 1, "schedule 52.0 GB"), "the plan needs 1,000,000.0 TB", "the largest are schedule 52.0 GB"
    )
    if os.statvfs(tmp_path).f_files:
        is_wrong(machine_checks.room(tmp_path, 1, 10**15, ""), "inodes free", "file quota")
