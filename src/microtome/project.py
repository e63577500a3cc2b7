"""The project in the working directory as a run of Snakemake would see it: its configuration with overlays, and a profile."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from snakemake.cli import get_profile_dir
from snakemake.common import get_appdirs
from snakemake.utils import update_config

from microtome.config import Config, load_config
from microtome.errors import UserError

CONFIG = Path("config/config.yaml")


def read_config(overlays: Sequence[Path]) -> Config:
    """`config/config.yaml` under the overlays, as `snakemake --configfile` merges them.

    Raises:
        UserError: a file that is not there or no YAML, and what the configuration itself has wrong.
    """
    merged: dict[str, Any] = {}
    for path in (CONFIG, *overlays):
        update_config(merged, read_yaml(path))
    return load_config(merged)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file with keys and values.

    Raises:
        UserError: no such file, no YAML, no keys.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}. Expected a YAML file; run in the project's folder, where config/ is.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected keys and values, found {type(found).__name__}.")
    return found


@dataclass(frozen=True)
class Needs:
    """What one job of a rule asks for at its first attempt. `nodes` is 0 on this machine; `processes` and `gpus` are a node's."""

    threads: int
    mem_mb: int
    runtime_min: int
    nodes: int
    processes: int
    gpus: int
    partition: str
    account: str


class Profile:
    """A profile of Snakemake's: a YAML file, `config.yaml` in most folders."""

    def __init__(self, file: Path) -> None:
        self.file, self.values = file, read_yaml(file)

    @classmethod
    def named(cls, name: str) -> "Profile":
        """The profile that `snakemake --profile NAME` takes: a file, a folder, or one of that name where Snakemake looks.

        Raises:
            UserError: there is none.
        """
        if found := get_profile_dir(name):
            return cls(Path(found[1]))
        dirs = get_appdirs()
        places = ", ".join(str(Path(folder) / name) for folder in ("", dirs.user_config_dir, dirs.site_config_dir))
        raise UserError(f"No profile {name!r}. Expected config.yaml (or config.v8+.yaml, profile.yaml) in one of: {places}.")

    @property
    def slurm(self) -> bool:
        """Whether jobs go to a Slurm cluster."""
        return self.values.get("executor") == "slurm"

    @property
    def jobs(self) -> int:
        """Jobs at once, queued or running; 0 where the profile states none (a machine's cores are the limit then)."""
        found = self.values.get("jobs") or 0
        return sys.maxsize if found == "unlimited" else _first(found)

    def needs(self, rule: str) -> Needs:
        """Of a rule's job: its own resources over the defaults.

        Raises:
            UserError: the profile has no number where one is needed, or a section of another form.
        """
        found = {**self._section("default-resources"), **self._section("set-resources", rule)}
        gpus = _gpus(str(found.get("gres", ""))) or found.get("gpus", found.get("gpu", 0))
        return Needs(
            threads=_first(self._section("set-threads").get(rule, found.get("cpus", 1))),
            mem_mb=_first(found.get("mem_mb", 0)),
            runtime_min=_first(found.get("runtime", 0)),
            nodes=_first(found.get("nodes", 1 if self.slurm else 0)),
            processes=_first(found.get("processes", 1)),
            gpus=_first(gpus),
            partition=str(found.get("slurm_partition", "")),
            account=str(found.get("slurm_account", "")),
        )

    def rules(self) -> list[str]:
        """The rules that have resources or threads of their own."""
        return list(dict.fromkeys([*self._section("set-resources"), *self._section("set-threads")]))

    def _section(self, *keys: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.values
        for key in keys:
            within = found.get(key) or {}
            if not isinstance(within, Mapping):
                raise UserError(f"{self.file}: {': '.join(keys)}: expected keys and values (mem_mb: 4000), found {within!r}.")
            found = within
        return found


def _gpus(gres: str) -> int:
    """Those of `gpu`, `gpu:2`, `gpu:a100` or `gpu:a100:2`; 0 for other generic resources."""
    name, *rest = gres.split(":")
    if name != "gpu":
        return 0
    return int(rest[-1]) if rest and rest[-1].isdigit() else 1


def _first(value: object) -> int:
    """A number, or that of the first attempt: `16000 * attempt`."""
    text = str(value).replace("attempt", "").strip(" *")
    try:
        return int(text)
    except ValueError:
        raise UserError(f"The profile has {value!r} where a number is expected, or a number * attempt.") from None
