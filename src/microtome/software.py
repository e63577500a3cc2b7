"""Which software results are made with: the commit of this code, and the versions of what changes numbers or pictures."""

import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import microtome

PACKAGES = [
    *["numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "scikit-image", "torch", "torchvision", "timm", "safetensors", "h5py"],
    *["openslide-python", "openslide-bin", "tifffile", "imagecodecs", "simplejpeg", "opencv-python-headless", "pillow", "matplotlib"],
    *["pydantic", "snakemake"],
]


def commit() -> str | None:
    """The commit of this code, where it runs from a git work tree."""
    return _git("log", "-1", "--format=%H") or None


def changed() -> bool:
    """Whether this code differs from its commit."""
    return bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str:
    git, here = shutil.which("git"), str(Path(__file__).parent)
    if git is None:
        return ""
    return subprocess.run([git, "-C", here, *arguments, "--", here], capture_output=True, text=True, check=False).stdout.strip()


def versions() -> dict[str, str]:
    """microtome with its commit, Python, the system, and each of `PACKAGES`."""
    found = commit()
    code = f"commit {found}, the last that changed its code{'; changed since' if changed() else ''}" if found else "no git work tree"
    system = {"Python": platform.python_version(), "system": platform.platform()}
    return {"microtome": f"{microtome.__version__} ({code})", **system, **{name: version(name) for name in PACKAGES}}
