"""One set of versions: what the code imports is pinned, and the conda environment holds what the lock holds."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml

from microtome import machine_checks

ROOT = Path(__file__).parents[1]


def lock() -> dict[str, str]:
    lines = [line for line in (ROOT / "envs" / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}


def test_every_version_is_pinned_for_cpu_and_gpu_alike() -> None:
    assert all(re.fullmatch(r"[0-9][0-9A-Za-z.]*", version) for version in lock().values())  # no `+cpu`


def test_conda_holds_what_the_lock_holds() -> None:
    pip = yaml.safe_load((ROOT / "envs" / "microtome.yaml").read_text())["dependencies"][-1]["pip"]
    lines = (ROOT / "envs" / "requirements.lock").read_text().splitlines()
    assert pip == [line for line in lines if line and not line.startswith("#")]


def test_the_container_holds_what_the_lock_holds() -> None:
    """Its %files and %post are the lock and one pip install of it, nothing else; Python is conda's, and the one that doctor asks for."""
    text = (ROOT / "envs" / "microtome.def").read_text()
    head, *named = re.split(r"^%(\w+)\n", text, flags=re.MULTILINE)
    sections = {
        name: [line.strip() for line in body.splitlines() if line.strip()] for name, body in zip(named[::2], named[1::2], strict=True)
    }
    assert sections == {
        "files": ["envs/requirements.lock /opt/requirements.lock"],
        "post": ["pip install --no-cache-dir -r /opt/requirements.lock"],
    }
    version = ".".join(map(str, machine_checks.PYTHON))
    assert re.findall(r"^(?:Bootstrap|From): (.+)$", head, re.MULTILINE) == ["docker", f"python:{version}-slim-bookworm"]
    assert f"python={version}" in yaml.safe_load((ROOT / "envs" / "microtome.yaml").read_text())["dependencies"]


def test_what_the_code_imports_is_locked() -> None:
    imported = set()
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    distributions = packages_distributions()
    names = {
        re.sub(r"[-_.]+", "-", d).lower() for m in imported - sys.stdlib_module_names - {"microtome", "tests"} for d in distributions[m]
    }
    assert names <= lock().keys()
    direct = {line.lower() for line in (ROOT / "envs" / "requirements.in").read_text().splitlines() if line and not line.startswith("#")}
    assert direct <= lock().keys()
