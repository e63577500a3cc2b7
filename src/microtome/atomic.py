"""Whole files appear by rename, so that a killed job leaves nothing that looks finished."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it is renamed to `path`, on an exception removed.

    The name holds the process id: an orphan and its successor never write to the same file.
    A SIGKILL can leave `.<name>.<pid>.part` behind: `sweep_parts` removes those.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(text)


def sweep_parts(folder: Path, name: str = "*") -> None:
    """Remove what killed jobs left half-written directly in `folder`, of all files or of one `name`."""
    for part in folder.glob(f".{name}.*.part"):
        part.unlink(missing_ok=True)
