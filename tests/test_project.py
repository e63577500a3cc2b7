"""A project and its profile as Snakemake would see them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.common import get_appdirs

from microtome.errors import UserError
from microtome.project import Needs, Profile, read_config
from tests.test_config import values


def profile(folder: Path, **written: Any) -> Profile:
    (folder / "config.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    return Profile(folder / "config.yaml")


def test_overlays_change_what_they_name_and_the_last_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text(json.dumps(values()))
    for name, epochs in {"a": 27, "b": 29}.items():
        (tmp_path / name).write_text(f"gma: {{epochs: {epochs}}}\n")
    plain, changed = read_config([]), read_config([Path("a"), Path("b")])
    assert (changed.gma.epochs, read_config([Path("b"), Path("a")]).gma.epochs) == (29, 27)
    assert changed.model_copy(update={"gma": plain.gma}) == plain


def test_needs_are_a_rules_own_over_the_defaults(tmp_path: Path) -> None:
    found = profile(
        tmp_path,
        executor="slurm",
        jobs=200,
        **{
            "default-resources": {"slurm_account": "lab", "slurm_partition": "cpu", "mem_mb": "4000 * attempt", "runtime": "attempt * 60"},
            "set-threads": {"tiles": 16},
            "set-resources": {
                "tiles": {"mem_mb": "32000*attempt", "slurm_partition": "fast"},
                "pretrain": {"cpus": 3, "nodes": 2, "processes": 8},
            },
        },
    )
    assert (found.slurm, found.jobs, found.rules()) == (True, 200, ["tiles", "pretrain"])
    assert found.needs("tiles") == Needs(16, 32000, 60, nodes=1, processes=1, gpus=0, partition="fast", account="lab")
    assert found.needs("pretrain") == Needs(3, 4000, 60, nodes=2, processes=8, gpus=0, partition="cpu", account="lab")
    empty = profile(tmp_path, cores=2, **{"set-resources": None})
    assert (empty.slurm, empty.jobs, empty.rules()) == (False, 0, [])
    assert empty.needs("tiles") == Needs(1, 0, 0, nodes=0, processes=1, gpus=0, partition="", account="")


@pytest.mark.parametrize(
    ("resources", "gpus"),
    [
        ({"gres": "gpu:4"}, 4),
        ({"gres": "gpu:a100:8"}, 8),
        ({"gres": "gpu:a100"}, 1),
        ({"gres": "gpu"}, 1),
        ({"gpus": 8}, 8),
        ({"gpu": 2}, 2),
        ({"gres": "lscratch:5", "gpus": 1}, 1),
        ({"gres": "lscratch:5"}, 0),
        ({}, 0),
    ],
)
def test_gpus_in_each_form_that_the_slurm_plugin_takes(tmp_path: Path, resources: dict[str, Any], gpus: int) -> None:
    assert profile(tmp_path, **{"set-resources": {"features": resources}}).needs("features").gpus == gpus


def test_unlimited_jobs_are_more_than_there_ever_are(tmp_path: Path) -> None:
    assert profile(tmp_path, jobs="unlimited").jobs > 10**9


def test_a_profile_is_looked_for_where_snakemake_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    users = Path(get_appdirs().user_config_dir)
    (users / "mine").mkdir(parents=True)
    profile(users / "mine", jobs=3)
    assert users.is_relative_to(tmp_path)
    assert (Profile.named("mine").jobs, Profile.named("mine").file) == (3, users / "mine" / "config.yaml")
    (tmp_path / "mine").mkdir()
    profile(tmp_path / "mine", jobs=4)
    assert Profile.named("mine").jobs == 4
    with pytest.raises(UserError, match=rf"No profile 'none'. Expected config.yaml .* in one of: none, {re.escape(str(users))}/none, "):
        Profile.named("none")


def test_a_profiles_file_has_any_name_that_snakemake_takes(tmp_path: Path) -> None:
    for jobs, name in enumerate(["profile.yaml", "config.v8+.yaml", "config.v99+.yaml", "notes.yaml"], 1):
        (tmp_path / name).write_text(f"jobs: {jobs}\n")
        assert Profile.named(str(tmp_path)).jobs == min(jobs, 2)  # the highest version that ours is not below
    assert Profile.named(f"{tmp_path}/notes.yaml").jobs == 4


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("default-resources: {mem_mb: lots}", "The profile has 'lots' where a number is expected, or a number [*] attempt"),
        ("jobs: many", "The profile has 'many' where a number is expected"),
        ("default-resources: [mem_mb=4000]", r"default-resources: expected keys and values \(mem_mb: 4000\), found \['mem_mb=4000'\]"),
        ("set-resources: {tiles: 4000}", "set-resources: tiles: expected keys and values .*, found 4000"),
        ("- a", "expected keys and values, found list"),
        ("a: [", "no YAML: while parsing"),
        ("", "expected keys and values, found NoneType"),
    ],
)
def test_bad_profiles(tmp_path: Path, written: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(written + "\n")
    with pytest.raises(UserError, match=message):
        print(Profile(tmp_path / "config.yaml").needs("tiles"), Profile(tmp_path / "config.yaml").jobs)
