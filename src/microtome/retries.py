"""Whether the slides of a shard that failed are tried again when it is made once more.

They are, unless the shard is made because slides came or left: a new slide must not cost hours over old damage. A job that did not end
well forgets what it knew, so that after it, too, everything that failed is tried.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from microtome.atomic import write_text


@contextmanager
def retries(folder: Path, slides: Iterable[str]) -> Iterator[bool]:
    """Whether to try failed slides of a shard again; its `slides` are noted in `folder` when the block has ended well."""
    note, names = folder / "_slides.json", sorted(slides)
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        known = None
    again = not isinstance(known, list) or known == names
    note.unlink(missing_ok=True)
    yield again
    write_text(note, json.dumps(names) + "\n")
