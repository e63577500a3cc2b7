"""Each check of the project finds what it is there for, and says how to mend it."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from microtome import project_checks
from microtome.findings import Finding
from microtome.project import Profile
from tests.checkout import ROOT
from tests.doctor_checks import is_wrong, project
from tests.drawn_slides import write_slide
from tests.test_config import values


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
    (tmp_path / "task.csv").write_text("slide,target\ns1,1\ns2,0\ns3,0\n")
    is_wrong(project_checks.task_tables(config, slides), "too few patients for a split: class 1 has 1", "mend the table")
    (tmp_path / "slides.csv").write_text("slide,path\na,b\n")
    fault, _ = project_checks.slide_table(config)
    assert fault is not None
    is_wrong(fault, "missing: patient, organ", "slide table")


def test_slides_that_tissue_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = project(tmp_path).model_copy(update={"max_failed_fraction": 0.2})
    _, slides = project_checks.slide_table(config)
    (finding,) = project_checks.slide_resolutions(config, slides)
    assert finding == Finding("ok", "20 slides opened: their µm/px are known, and as fine as grid.mpp 0.5")
    white = np.full((16, 16, 3), 240, np.uint8)
    (tmp_path / "3.tiff").unlink()  # the paths are another check
    (tmp_path / "4.tiff").write_bytes(b"")
    tifffile.imwrite(tmp_path / "5.tiff", white, tile=(16, 16), photometric="rgb", metadata=None)
    write_slide(tmp_path / "6.tiff", white, 0.88, tile_px=16, factors=(1,))
    said = [
        "1 of 19 slides looked at cannot be read, such as s4: the file is empty (0 bytes)",
        "1 of 19 slides looked at have no µm/px to go by, such as s5: no µm/px in its metadata: give it in the slide table's column mpp",
        "1 of 19 slides looked at are too coarse, such as s6: level 0 has 0.88 µm/px, coarser than the 0.5 that grid.mpp wants",
    ]
    found = list(project_checks.slide_resolutions(config, slides))
    assert [finding.level for finding in found] == ["warning"] * 3
    for finding, text in zip(found, said, strict=True):
        assert finding.what.startswith(text), finding.line()
    strict = config.model_copy(update={"max_failed_fraction": 0.15})  # three of 19 would stop a run
    assert [finding.level for finding in project_checks.slide_resolutions(strict, slides)] == ["wrong"] * 3
    slides.loc[slides["slide"].isin(["s5", "s6"]), "mpp"] = 0.25  # the table has the last word
    assert len(list(project_checks.slide_resolutions(config, slides))) == 1
    capsys.readouterr()
    assert not list(project_checks.slide_resolutions(config, slides.iloc[[list(slides["slide"]).index("s3")]]))
    assert capsys.readouterr().err == "", "no bar of no slide"


def test_a_gigapixel_without_a_small_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, inch = project(tmp_path), 25_400 / 0.25
    white = np.full((512, 512, 3), 240, np.uint8)
    tifffile.imwrite(tmp_path / "a.tiff", white, tile=(256, 256), photometric="rgb", resolution=(inch, inch), resolutionunit="INCH")
    assert project_checks.refusal(tmp_path / "a.tiff", np.nan, config) is None
    monkeypatch.setattr("microtome.thumbnails.GIGAPIXEL", 512 * 512)
    found = project_checks.refusal(tmp_path / "a.tiff", np.nan, config)
    assert found is not None
    assert found[0] == "have no level that is small enough"
    assert found[1].startswith("512 x 512 px without a small level: expected a pyramid")


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
    finding = project_checks.hub(config)
    assert (finding.level, finding.what) == (
        "warning",
        "not in the cache, to be fetched from the Hugging Face hub when features are made: nobody/none",
    )


def test_timms_own_weights_come_from_the_hub_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = values("demo.yaml")["features"]
    features["encoders"]["tres50"] |= {"weights": "pretrained"}
    config = project(tmp_path, features=features)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: None)
    finding = project_checks.hub(config)
    assert (finding.level, finding.what.split(": ")[1]) == ("warning", "timm/resnet50.tv_in1k")
    asked = []
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: (asked.append(names), "/cache/model.safetensors")[1])
    assert project_checks.hub(config).what == "encoders from the hub: timm/resnet50.tv_in1k"
    assert asked == [("timm/resnet50.tv_in1k", "model.safetensors")]


def test_a_batch_that_processes_cannot_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = values("paper.yaml")
    project(tmp_path, **{section: paper[section] for section in ("schedule", "pretrain", "features")})
    monkeypatch.chdir(tmp_path)
    written = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    for nodes, level in {2: "wrong", 3: "ok"}.items():
        written["set-resources"]["pretrain"] |= {"nodes": nodes, "processes": 8}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
        (finding,) = project_checks.processes([], Profile(tmp_path / "config.yaml"))
        assert finding.level == level
        assert ("batch of 1,080 cannot be shared equally by 16 processes" in finding.what) == (nodes == 2)
    assert not list(project_checks.processes([tmp_path / "missing.yaml"], Profile(tmp_path / "config.yaml")))


def test_no_slurm_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert project_checks.executor(slurm=True).level == "ok"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    is_wrong(project_checks.executor(slurm=True), "no Slurm executor", "make install")
    assert project_checks.executor(slurm=False).level == "ok"
