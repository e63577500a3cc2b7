"""Each check of `doctor` finds what it is there for, and says how to mend it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from microtome import machine_checks, project_checks
from microtome.config import Config, load_config
from microtome.doctor import doctor
from microtome.findings import Finding
from microtome.project import Profile
from tests.checkout import ROOT
from tests.doctor_checks import is_wrong, programs
from tests.test_config import values


@pytest.fixture
def profile() -> Profile:
    return Profile(ROOT / "profiles" / "slurm")


def test_python_and_packages(tmp_path: Path) -> None:
    assert machine_checks.python().level == "ok"
    is_wrong(machine_checks.python((99, 0)), "99.0 or later is needed", "make install")
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"numpy=={machine_checks._version('numpy')}\ntorch=={machine_checks._version('torch')}\n")
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
    assert machine_checks.room(tmp_path / "not" / "yet", 1, 1).level == "ok"
    is_wrong(machine_checks.room(tmp_path, 1e18, 1), "the plan needs 1,000,000.0 TB", "make room")
    if os.statvfs(tmp_path).f_files:
        is_wrong(machine_checks.room(tmp_path, 1, 10**15), "inodes free", "file quota")


def project(folder: Path, slides: int = 20, **changes: Any) -> Config:
    """A project in `folder` whose slides are there: its configuration."""
    (folder / "config").mkdir(exist_ok=True)
    rows = pd.DataFrame({"slide": [f"s{i}" for i in range(slides)], "path": [str(folder / f"{i}.tiff") for i in range(slides)]})
    for path in rows["path"]:
        Path(path).touch()
    rows.assign(patient="p", organ="lung").to_csv(folder / "slides.csv", index=False)
    rows.assign(target=[i % 2 for i in range(slides)])[["slide", "target"]].to_csv(folder / "task.csv", index=False)
    task = {"table": str(folder / "task.csv"), "origin": "here", "disease": "none", "kind": "detection"}
    merged = values("demo.yaml") | {"slides": str(folder / "slides.csv"), "tasks": {"a": task}} | changes
    merged["cohort"]["exclude_patients"] = None
    (folder / "config" / "config.yaml").write_text(json.dumps(merged))
    return load_config(merged)


def test_slides_and_tasks(tmp_path: Path) -> None:
    config = project(tmp_path)
    fault, slides = project_checks.slide_table(config)
    assert fault is None
    assert "20 slides; 20 paths of them looked at, all there" in project_checks.slide_paths(config, slides).what
    assert project_checks.task_tables(config, slides).what == "tasks: a 20 slides"
    (tmp_path / "3.tiff").unlink()
    assert project_checks.slide_paths(config, slides).level == "warning"
    for path in tmp_path.glob("1*.tiff"):
        path.unlink()
    is_wrong(project_checks.slide_paths(config, slides), "12 of 20 paths looked at are no file", "mount the archive")
    (tmp_path / "task.csv").write_text("slide,target\nelsewhere,1\ns1,0\n")
    is_wrong(project_checks.task_tables(config, slides), "slides that are not in the cohort: elsewhere", "null")
    (tmp_path / "slides.csv").write_text("slide,path\na,b\n")
    fault, _ = project_checks.slide_table(config)
    assert fault is not None
    is_wrong(fault, "missing: patient, organ", "slide table")


def test_more_files_in_a_folder_than_file_systems_like(tmp_path: Path) -> None:
    config = project(tmp_path)
    assert project_checks.shard_folders(config, 20).level == "ok"
    found = project_checks.shard_folders(config, 423_563)
    assert (found.level, "about 317,673 files in a folder" in found.what) == ("warning", True)
    assert "raise cohort.shards to 255 or more" in found.remedy
    enough = config.model_copy(update={"cohort": config.cohort.model_copy(update={"shards": 255})})
    assert project_checks.shard_folders(enough, 423_563).level == "ok"


def test_gated_weights_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = project(tmp_path)
    assert project_checks.hub(config).what == "no encoder from the hub"
    timm = config.features.encoders["tres50"].model_dump(mode="json") | {"timm": "hf-hub:nobody/none", "weights": "pretrained"}
    features = values("demo.yaml")["features"]
    features["encoders"]["uni"] = timm | {"truncate": None}
    config = project(tmp_path, features=features)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    finding = project_checks.hub(config)
    assert (finding.level, "nobody/none is not in the cache" in finding.what, "HF_TOKEN" in finding.remedy) == ("warning", True, True)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    assert project_checks.hub(config).level == "ok"


def test_a_batch_that_processes_cannot_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = values("paper.yaml")
    project(tmp_path, **{section: paper[section] for section in ("schedule", "pretrain", "features")})
    monkeypatch.chdir(tmp_path)
    written = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    for nodes, level in {2: "wrong", 3: "ok"}.items():
        written["set-resources"]["pretrain"] |= {"nodes": nodes, "processes": 8}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
        (finding,) = project_checks.processes([], Profile(tmp_path))
        assert finding.level == level
        assert ("batch of 1,080 cannot be shared equally by 16 processes" in finding.what) == (nodes == 2)
    assert not list(project_checks.processes([tmp_path / "missing.yaml"], Profile(tmp_path)))


def test_no_slurm_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert project_checks.executor(slurm=True).level == "ok"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    is_wrong(project_checks.executor(slurm=True), "no Slurm executor", "make install")
    assert project_checks.executor(slurm=False).level == "ok"


def test_the_whole_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        doctor(profile=str(ROOT / "profiles" / "local"))
    printed = capsys.readouterr().out
    assert done.value.code == 0, printed
    assert "\n0 wrong, " in printed
    (tmp_path / "overlay.yaml").write_text("gma: {epoch: 1}\n")
    with pytest.raises(SystemExit) as done:
        doctor([tmp_path / "overlay.yaml"], "nowhere")
    printed = capsys.readouterr().out
    assert done.value.code == 1
    assert "wrong    The configuration is not valid." in printed
    assert "wrong    No profile 'nowhere'. Expected config.yaml in one of: nowhere, " in printed
