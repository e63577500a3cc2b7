"""Results made from other tiles than the catalog has by now: features and aggregators follow slides that were mended or replaced.

The catalog has a digest of each slide's tiles. What is made from some slides carries a digest of those in its parquet metadata. Snakemake
cannot tell by times alone: shards are shared, and a new slide must not make the features of others anew.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

NOTE = b"tiles_digest"


def digest_of(slides: Iterable[str], digests: Iterable[object]) -> str:
    """A digest of the tiles of several slides from theirs, in whatever order; slides without tiles (no digest) do not count."""
    found = sorted(f"{slide} {one}" for slide, one in zip(slides, digests, strict=True) if isinstance(one, str) and one)
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]


def digests_in(table: pd.DataFrame) -> "pd.Series[str]":
    """The digest of each row's tiles; none where coordinates or features are of other tools, which know of no digests."""
    return table.get("rows_digest", pd.Series(None, table.index, dtype="str"))


def write_noted(part: Path, table: pd.DataFrame, digest: str) -> None:
    """Write a table as parquet, with the digest of the tiles it was made from."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), NOTE: digest}), part)


def noted(path: Path) -> str | None:
    """The digest that a file carries; None where it carries none, or is not there."""
    try:
        note = (pq.read_schema(path).metadata or {}).get(NOTE)
    except (OSError, pa.ArrowInvalid):
        return None
    return None if note is None else note.decode()


class Outdated:
    """Compares what results carry with the catalog of the last run.

    Args:
        tasks: of each task the slides, with their feature shard: slide, shard.
        results: the folder of results; None where nothing is to be compared, for tiles are not ours.
    """

    def __init__(self, tasks: Mapping[str, pd.DataFrame], results: Path | None) -> None:
        self.tasks, self.results = tasks, results
        self._known: dict[str, bool] = {}

    def features(self, encoder: str, shard: str) -> bool:
        """Whether the features of a shard's slides were made from other tiles."""
        return self._differs(f"features/{encoder}/{shard}.parquet", self._of_shard.get(shard, set()))

    def gma(self, task: str, encoder: str) -> bool:
        """Whether a task's aggregators were trained on features of other tiles."""
        return self._differs(f"gma/{task}/{encoder}/predictions.parquet", self._of_task[task])

    def _differs(self, name: str, slides: set[str]) -> bool:
        if self.results is None or self._now is None:
            return False
        if name not in self._known:
            now = {slide: self._now[slide] for slide in slides if slide in self._now}
            made_from = noted(self.results / name)
            self._known[name] = made_from is not None and made_from != digest_of(now.keys(), now.values())
        return self._known[name]

    @cached_property
    def _of_task(self) -> dict[str, set[str]]:
        return {task: set(rows["slide"]) for task, rows in self.tasks.items()}

    @cached_property
    def _of_shard(self) -> dict[str, set[str]]:
        rows = pd.concat([*self.tasks.values(), pd.DataFrame(columns=["slide", "shard"])])
        return {str(shard): set(of_shard["slide"]) for shard, of_shard in rows.groupby("shard")}

    @cached_property
    def _now(self) -> dict[str, object] | None:
        """The digest of each task slide's tiles; None where the catalog is not there, or has none."""
        assert self.results is not None
        try:
            table = pq.read_table(self.results / "catalog" / "slides.parquet", columns=["slide", "rows_digest"]).to_pandas()
        except (OSError, pa.ArrowInvalid):
            return None
        mine = set().union(*self._of_task.values())
        table = table[table["slide"].isin(mine)]
        return dict(zip(table["slide"], table["rows_digest"], strict=True))
