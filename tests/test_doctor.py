"""The whole doctor: every check of a project, and of what is wrong in one."""

from pathlib import Path

import pytest

from microtome.doctor import doctor
from tests.checkout import ROOT
from tests.doctor_checks import project


def test_the_whole_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        doctor(profile=str(ROOT / "profiles" / "local"))
    printed = capsys.readouterr().out
    assert done.value.code == 0, printed
    assert "\n0 wrong, " in printed
    assert "20 slides opened: their µm/px are known" in printed
    (tmp_path / "overlay.yaml").write_text("gma: {epoch: 1}\n")
    with pytest.raises(SystemExit) as done:
        doctor([tmp_path / "overlay.yaml"], "nowhere")
    printed = capsys.readouterr().out
    assert done.value.code == 1
    assert "wrong    The configuration is not valid." in printed
    assert "wrong    No profile 'nowhere'. Expected config.yaml (or config.v8+.yaml, profile.yaml) in one of: nowhere, " in printed
