"""How many tiles each slide gives to each pseudo-epoch (`microtome.quota` has the rules), and how balanced the organs come out.

Slides take part whose tiles are there (status ok), that may be pretrained on, and whose patient or case is in no excluded task.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from microtome.atomic import atomic_path, write_text
from microtome.command_line import run
from microtome.errors import UserError
from microtome.quota import Integers, Share, plan
from microtome.settings import ScheduleSettings
from microtome.tasks import read_task, with_patients

CATALOG = ["slide", "patient", "case", "organ", "pretrain", "shard", "status", "tiles", "tile_px"]
SCHEMA = pa.schema(
    {
        "slide": pa.string(),
        "shard": pa.string(),
        "organ": pa.string(),
        "pseudo_epoch": pa.int32(),
        "tiles": pa.int32(),
        "before": pa.int64(),
        "slide_tiles": pa.int64(),
        "tile_px": pa.int32(),
    }
)
SHARES = ["natural_share", "target_share", "reached_share"]
BALANCE = ["pseudo_epoch", "organ", "slides", "available", *SHARES, "tiles", "repeated", "seen_before"]


def usable_slides(catalog: Path, task_tables: list[Path]) -> pd.DataFrame:
    """The slides of the catalog that take part, sorted by shard and slide, as the tile indexes are.

    Raises:
        UserError: none is left; a task table is wrong or names slides that the catalog does not have.
    """
    slides = pd.read_parquet(catalog, columns=CATALOG)
    ok = slides["status"].eq("ok") & slides["tiles"].gt(0)
    pretrain = ok & slides["pretrain"].astype(bool)
    usable = slides[pretrain & ~_of_tasks(slides, task_tables)]
    if usable.empty:
        raise UserError(
            f"{catalog}: no slide can be scheduled. Of {len(slides)} slides {ok.sum()} have tiles, of these {pretrain.sum()} may be "
            "pretrained on (`pretrain` in the slide table), of these 0 are of no patient of schedule.exclude_tasks."
        )
    return usable.sort_values(["shard", "slide"], ignore_index=True)


def _of_tasks(slides: pd.DataFrame, task_tables: list[Path]) -> "pd.Series[bool]":
    named = pd.concat([pd.DataFrame({"slide": []}), *(with_patients(table, read_task(table), slides) for table in task_tables)])
    mine = slides["slide"].isin(named["slide"])
    return slides["patient"].isin(slides["patient"][mine]) | slides["case"].isin(slides["case"][mine].dropna())


def quota_tables(slides: pd.DataFrame, shares: list[Share]) -> Iterator[pa.Table]:
    """A table a pseudo-epoch: a row a slide that gives tiles to it; `before` counts those it gave to earlier ones."""
    before = np.zeros(len(slides), np.int64)
    for share in shares:
        giving = share.tiles > 0
        rows, tiles = share.slides[giving], share.tiles[giving]
        part = slides[["slide", "shard", "organ", "tiles", "tile_px"]].iloc[rows].rename(columns={"tiles": "slide_tiles"})
        part = part.assign(pseudo_epoch=share.pseudo_epoch, tiles=tiles, before=before[rows])
        yield pa.Table.from_pandas(part, SCHEMA, preserve_index=False).replace_schema_metadata(None)
        before[rows] += tiles


def balance_table(slides: pd.DataFrame, shares: list[Share], alpha: float) -> pd.DataFrame:
    """A row a pseudo-epoch and organ: `BALANCE`; and the organs' sums over all of them (pseudo_epoch "all").

    slides: that give tiles. available: tiles of the organ's slides in the part. tiles: drawn; of these, repeated: drawn already in this
    pseudo-epoch, seen_before: drawn in an earlier one. natural, target and reached share: of the pseudo-epoch's tiles, 0 to 1.
    """
    names = np.sort(slides["organ"].unique())
    organs, available = np.searchsorted(names, slides["organ"]), slides["tiles"].to_numpy(np.int64)
    before = np.zeros(len(slides), np.int64)
    counts = []
    for share in shares:
        drawn = _balance_of(share.tiles, organs[share.slides], available[share.slides], before[share.slides], len(names), alpha)
        counts.append(drawn.assign(organ=names, pseudo_epoch=str(share.pseudo_epoch)))
        before[share.slides] += share.tiles
    each = pd.concat(counts, ignore_index=True)
    everything = each.drop(columns="pseudo_epoch").groupby("organ", as_index=False).sum().assign(pseudo_epoch="all")
    balance = pd.concat([each, everything], ignore_index=True)
    for share_name, tiles in (("natural_share", "available"), ("target_share", "target"), ("reached_share", "tiles")):
        balance[share_name] = balance[tiles] / balance.groupby("pseudo_epoch")[tiles].transform("sum")
    return balance[BALANCE]


def _balance_of(tiles: Integers, organs: Integers, available: Integers, before: Integers, organ_count: int, alpha: float) -> pd.DataFrame:
    distinct = np.minimum(tiles, available)
    seen_before = distinct - np.clip(available - before, 0, distinct)
    counts = {"slides": tiles > 0, "available": available, "tiles": tiles, "repeated": tiles - distinct, "seen_before": seen_before}
    balance = pd.DataFrame({name: np.bincount(organs, values, organ_count).astype(np.int64) for name, values in counts.items()})
    wanted = np.where(balance["available"] > 0, balance["available"].astype(float) ** alpha, 0.0)
    return balance.assign(target=wanted / wanted.sum() * tiles.sum())


def schedule_quota(catalog: Path, quota: Path, balance: Path, settings: ScheduleSettings, task_tables: list[Path] = []) -> None:  # noqa: B006
    """Plan all pseudo-epochs: `quota` (parquet, a row group a pseudo-epoch) and `balance` (CSV)."""
    slides = usable_slides(catalog, task_tables)
    organs = pd.factorize(slides["organ"], sort=True)[0].astype(np.int64)
    shares = list(plan(organs, slides["tiles"].to_numpy(np.int64), settings))
    with atomic_path(quota) as part, pq.ParquetWriter(part, SCHEMA) as writer:
        for table in quota_tables(slides, shares):
            writer.write_table(table)
    balances = balance_table(slides, shares, settings.schedule.organ_alpha)
    write_text(balance, balances.to_csv(index=False))
    print(_summary(slides, balances, settings))


def _summary(slides: pd.DataFrame, balances: pd.DataFrame, settings: ScheduleSettings) -> str:
    drawn = balances[balances["pseudo_epoch"] == "all"]
    missed = drawn[(drawn["reached_share"] < 0.99 * drawn["target_share"]) & (drawn["slides"] > 0)]
    short = f"; short of their target by more than 1 %: {', '.join(missed['organ'])}" if len(missed) else ""
    return (
        f"{settings.schedule.pseudo_epochs} pseudo-epochs of {settings.schedule.tiles} tiles from {len(slides)} slides with "
        f"{slides['tiles'].sum()} tiles: {drawn['repeated'].sum()} repeated within a pseudo-epoch, "
        f"{drawn['seen_before'].sum()} seen in an earlier one{short}"
    )


if __name__ == "__main__":
    run(schedule_quota)
