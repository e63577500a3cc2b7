"""What the tests of the doctor's checks share: programs that stand in for a cluster's, a project, and what a finding must say."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from microtome.config import Config, load_config
from microtome.findings import Finding
from tests.drawn_slides import write_slide
from tests.test_config import values


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **printed: str) -> None:
    """Only these programs are on the path; each prints its text."""
    folder.mkdir(exist_ok=True)
    for name, text in printed.items():
        (folder / name).write_text(f"#!/bin/sh\nprintf '%s\\n' '{text}'\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def is_wrong(finding: Finding, what: str, remedy: str) -> None:
    assert (finding.level, what in finding.what, remedy in finding.remedy) == ("wrong", True, True), finding.line()


def project(folder: Path, slides: int = 20, **changes: Any) -> Config:
    """A project in `folder` whose slides are there: its configuration."""
    (folder / "config").mkdir(exist_ok=True)
    rows = pd.DataFrame({"slide": [f"s{i}" for i in range(slides)], "path": [str(folder / f"{i}.tiff") for i in range(slides)]})
    drawn = write_slide(folder / "drawn.tiff", np.full((16, 16, 3), 240, np.uint8), tile_px=16, factors=(1,))
    for path in rows["path"]:
        shutil.copy(drawn, path)
    rows.assign(patient=[f"p{i}" for i in range(slides)], organ="lung").to_csv(folder / "slides.csv", index=False)
    rows.assign(target=[i % 2 for i in range(slides)])[["slide", "target"]].to_csv(folder / "task.csv", index=False)
    task = {"table": str(folder / "task.csv"), "origin": "here", "disease": "none", "kind": "detection"}
    merged = values("demo.yaml") | {"slides": str(folder / "slides.csv"), "tasks": {"a": task}} | changes
    merged["cohort"]["exclude_patients"] = None
    (folder / "config" / "config.yaml").write_text(json.dumps(merged))
    return load_config(merged)
