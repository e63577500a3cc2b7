"""Results made from other tiles than the catalog has by now: features and aggregators follow slides that were mended or replaced.

The catalog has a digest of each slide's tiles. What is made from some slides carries a digest of those in its parquet metadata. The rule
`catalog` compares them and lists what is outdated; the Snakefile reads that list, which is short. Snakemake cannot tell by times alone:
shards are shared, and a new slide must not make the features of others anew.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from microtome.digests import short_digest

NOTE = b"tiles_digest"
COLUMNS = ["file", "made_from"]
PREDICTIONS = "predictions.parquet"
MADE_FROM_TILES = ["features/*/*.parquet", f"gma/*/*/{PREDICTIONS}"]


def digest_of(slides: Iterable[str], digests: Iterable[object]) -> str:
    """A digest of the tiles of several slides from theirs, in whatever order; slides without tiles (no digest) do not count."""
    found = sorted(f"{slide} {one}" for slide, one in zip(slides, digests, strict=True) if isinstance(one, str) and one)
    return short_digest("\n".join(found))


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


def find_outdated(results: Path, catalog: pd.DataFrame) -> pd.DataFrame:
    """The `file` (below `results`) of features and of predictions made from other tiles than `catalog` has, and the digest it carries."""
    now = dict(zip(catalog["slide"], catalog["rows_digest"], strict=True))
    found = [(path, noted(path)) for pattern in MADE_FROM_TILES for path in sorted(results.glob(pattern))]
    differ = [(path, made) for path, made in found if made is not None and made != _digest_now(_slides_of(path, results), now)]
    return pd.DataFrame([(path.relative_to(results).as_posix(), made) for path, made in differ], columns=COLUMNS)


def made_from_others(features: pd.DataFrame, catalog: Path) -> list[str]:
    """The slides of a table of features made from other tiles than `catalog` has; none where one of the two knows of no digests."""
    if "rows_digest" not in features or "rows_digest" not in pq.read_schema(catalog).names:
        return []
    now = pd.read_parquet(catalog, columns=["slide", "rows_digest"])
    both = features.merge(now, on="slide", suffixes=("", "_now"))
    differ = both["rows_digest"].fillna("") != both["rows_digest_now"].fillna("")
    return both.loc[differ, "slide"].tolist()


def _slides_of(path: Path, results: Path) -> list[str]:
    """The slides of a feature shard, or of the task of predictions; none where the task has no splits any more."""
    if path.name != PREDICTIONS:
        return list(pq.read_table(path, columns=["slide"])["slide"].to_pylist())
    splits = results / "splits" / f"{path.parent.parent.name}.csv"
    return pd.read_csv(splits, usecols=["slide"], dtype=str)["slide"].tolist() if splits.is_file() else []


def _digest_now(slides: list[str], now: dict[str, object]) -> str:
    return digest_of(slides, [now.get(slide) for slide in slides])


class Outdated:
    """What the last catalog listed as outdated and was not made anew since.

    Args:
        results: the folder of results; None where nothing is to be compared, for tiles are not ours.
    """

    def __init__(self, results: Path | None) -> None:
        self._results = results

    def features(self, encoder: str, shard: str) -> bool:
        """Whether the features of a shard's slides were made from other tiles."""
        return f"features/{encoder}/{shard}.parquet" in self._files

    def gma(self, task: str, encoder: str) -> bool:
        """Whether a task's aggregators were trained on features of other tiles."""
        return f"gma/{task}/{encoder}/{PREDICTIONS}" in self._files

    @cached_property
    def _files(self) -> set[str]:
        if self._results is None:
            return set()
        try:
            rows = pd.read_csv(self._results / "catalog" / "outdated.csv", dtype=str)
        except (FileNotFoundError, pd.errors.EmptyDataError):
            return set()
        return {file for file, made_from in rows[COLUMNS].to_numpy().tolist() if noted(self._results / file) == made_from}
