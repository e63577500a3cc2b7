"""A slide that was replaced under the same name: what was found on the old file does not fit the new one's pixels."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from microtome.ledger import Row, source_of


def is_replaced(seen: Row, source: Row) -> bool:
    """Whether the file is another (`source_of`, then and now) and there; where both have a checksum, the same bytes are the same slide."""
    keys = {"sha256"} if "sha256" in seen.keys() & source.keys() else {"size_b", "mtime_ns"}
    return bool(seen) and source["size_b"] >= 0 and any(seen.get(key) != source[key] for key in keys)


def source_now(path: Path, seen: Row) -> Row:
    """`source_of`; the checksum only where size or time differ from what was `seen` and a checksum can tell whether the bytes do."""
    source = source_of(path, checksum=False)
    return source_of(path, checksum=True) if "sha256" in seen and is_replaced(seen, source) else source


def why(stage: str, seen: Row, source: Row, remedy: str, again: Sequence[str], target: str) -> str:
    """The reason of a failed row: which `stage` saw what, what is there now, and the command that makes the files `again`."""
    expected, found = (f"{of['size_b']:,} bytes of {pd.Timestamp(of['mtime_ns']):%Y-%m-%d %H:%M:%S}" for of in (seen, source))
    command = f"snakemake --forcerun {' '.join(again)} -- {target}"
    head = f"not the file that `{stage}` saw: expected {expected}, found {found}"
    return f"{head}. {remedy}, with the profile and the overlays of the run: {command}"
