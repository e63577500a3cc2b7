"""The rule `catalog`: every slide of the slide table accounted for: ok, empty, failed (why), or excluded (why).

Lengths are level-0 pixels (`_px0`), `mpp_px0` is µm per level-0 pixel, `tile_mpp` that of the tiles (`mpp_requested`: that was asked for);
`first_row` is where a slide's tiles begin in its shard's tile index, `tile_b` the bytes a tile of a slide whose tiles are stored;
`level_downsample` is that of the level from which they were read (1: level 0), and which the scanner may have coded with losses. Left out
are `dropped` tiles as blurred or blank, `sparse` ones for too little tissue (null: not counted).
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from microtome.atomic import atomic_path, write_text
from microtome.cohort import COLUMNS, read_slides
from microtome.command_line import run
from microtome.ever_named import ever_named
from microtome.findings import some
from microtome.outdated import find_outdated

TISSUE_COLUMNS = ["vendor", "width_px0", "height_px0", "mpp_px0", "mpp_source", "tissue_um2"]
COUNTS = ["tiles", "dropped", "bytes"]
TILES_COLUMNS = [
    *COUNTS,
    "sparse",
    "tile_b",
    "reader",
    "reader_note",
    "mpp_requested",
    "tile_mpp",
    "first_row",
    "tile_px",
    "tile_px0",
    "shift_px0",
    "level_downsample",
    "rows_digest",
]
ORDER = [*COLUMNS, "shard", "status", "stage", "reason", *TISSUE_COLUMNS, *TILES_COLUMNS]
STATUSES = {
    "ok": "has tiles",
    "empty": "could be read, but has no tissue or no tile that is kept",
    "failed": "could not be read or measured",
    "excluded": "was left out of the cohort",
}


def account(slides: pd.DataFrame, used: pd.DataFrame, excluded: pd.DataFrame, tissue: pd.DataFrame, tiles: pd.DataFrame) -> pd.DataFrame:
    """A row for each slide of the table, sorted by slide: its cohort columns, status, the stage where it left ("" for ok), why, numbers."""
    found = slides.merge(used[["slide", "shard"]], on="slide", how="left")
    found = found.merge(excluded[["slide", "reason"]], on="slide", how="left")
    found = found.merge(tissue.rename(columns={"mpp": "mpp_px0", "status": "tissue_status"}).drop(columns="reason"), on="slide", how="left")
    found = found.merge(tiles.rename(columns={"mpp": "tile_mpp", "reason": "tiles_reason"}), on="slide", how="left")
    excluded_rows = found["shard"].isna()
    found["status"] = found["status"].mask(excluded_rows, "excluded")
    found["reason"] = found["tiles_reason"].mask(excluded_rows, found["reason"]).fillna("")
    left_at = found["tissue_status"].map(lambda status: "tiles" if status == "ok" else "tissue").mask(excluded_rows, "cohort")
    found["stage"] = left_at.mask(found["status"] == "ok", "")
    found[COUNTS] = found[COUNTS].fillna(0).astype("int64")
    found["tile_b"] = tile_bytes(found["bytes"], found["tiles"])
    accounts = found.reindex(columns=ORDER)  # tables of an earlier release lack `sparse`
    return accounts.astype({"sparse": "Int64"}).sort_values("slide", ignore_index=True)


def tile_bytes(size_b: pd.Series, tiles: pd.Series) -> pd.Series:
    """Bytes a tile, in the tar; NaN where none is stored."""
    return (size_b / tiles.replace(0, np.nan)).replace(0, np.nan)


def summarise(catalog: pd.DataFrame, attrition: pd.DataFrame, configfile: Sequence[Path] = (), gone: int = 0) -> str:
    """The catalog in a page of Markdown; `configfile`: the overlays of the run; `gone`: how many slides left the slide table."""
    ok = catalog[catalog["status"] == "ok"]
    failed = catalog[catalog["status"] == "failed"]
    by_organ = ok.groupby("organ").agg(slides=("slide", "size"), patients=("patient", "nunique"), tiles=("tiles", "sum"))
    parts = [
        f"# {len(catalog):,} slides, {len(ok):,} with tiles: {ok['tiles'].sum():,} tiles, {size(int(ok['bytes'].sum()))}{_a_tile(ok)}",
        _statuses(catalog),
        "## From the table to the cohort",
        _table(attrition),
        "## Slides with tiles, by organ",
        _table(by_organ.sort_values("tiles", ascending=False).reset_index()),
        "## How their pixels were read",
        _table(_counted(ok, ["reader", "reader_note"], with_tiles=True)),
        "## Where µm/px came from",
        _table(_counted(catalog[catalog["mpp_source"].notna()], ["mpp_source", "vendor"])),
        "## Slides that left, and why",
        _table(_counted(catalog[catalog["status"] != "ok"], ["status", "stage", "reason"])),
        f"Tiles left out: {catalog['dropped'].sum():,} blurred or blank, {catalog['sparse'].sum():,} with too little tissue "
        "(limits of `tiles` that are 0 leave none out).",
    ]
    parts += [f"Slides that an earlier slide table named and this one does not: {gone:,}, with their last account in `named.csv`."] * bool(
        gone
    )
    return "\n\n".join(parts + [_retry(failed, configfile)] * bool(len(failed))) + "\n"


def _statuses(catalog: pd.DataFrame) -> str:
    rows = [{"status": name, "slides": int((catalog["status"] == name).sum()), "meaning": text} for name, text in STATUSES.items()]
    return _table(pd.DataFrame(rows))


def _counted(slides: pd.DataFrame, columns: list[str], with_tiles: bool = False) -> pd.DataFrame:
    groups = slides.fillna(dict.fromkeys(columns, "")).groupby(columns)
    counted = groups.agg(slides=("slide", "size"), tiles=("tiles", "sum")).reset_index()
    counted = counted.sort_values("slides", ascending=False, kind="stable").drop(columns=[] if with_tiles else ["tiles"])
    rest = counted[SHOWN:]
    if rest.empty:
        return counted
    others = dict.fromkeys(columns, "") | {columns[-1]: f"{len(rest):,} others"} | rest.drop(columns=columns).sum().to_dict()
    return pd.concat([counted[:SHOWN], pd.DataFrame([others])])


def _table(frame: pd.DataFrame) -> str:
    def cell(value: object) -> str:
        return (f"{value:,}" if isinstance(value, int) else str(value)).replace("|", "\\|")

    lines = [list(frame.columns), ["---"] * frame.shape[1], *frame.astype(object).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines) if len(frame) else "None."


def size(size_b: int) -> str:
    """Bytes as a person reads them: 4.7 MB."""
    unit = next(unit for unit in ("TB", "GB", "MB", "kB", "B") if size_b >= SIZES[unit] or unit == "B")
    return f"{size_b / SIZES[unit]:.1f} {unit}"


def _a_tile(ok: pd.DataFrame) -> str:
    stored = ok[ok["bytes"] > 0]
    return f", {size(round(stored['bytes'].sum() / stored['tiles'].sum()))} a tile" if len(stored) else ""


SHOWN = 20  # rows of a count: reasons have paths and places in them, so that each slide may have its own; the tables have all
SIZES = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0}


def _retry(failed: pd.DataFrame, configfile: Sequence[Path]) -> str:
    targets = " ".join(f"results/tissue/{shard}.parquet results/tiles/{shard}.parquet" for shard in sorted(failed["shard"].unique()))
    overlays = f" --configfile {shlex.join(map(str, configfile))}" if configfile else ""
    return (
        f"The slides that failed are named in `failures.csv`: {some(failed['slide'].tolist(), SHOWN)}. "
        "Mend what their reasons say; a file that was mended or replaced is read anew by the next command. "
        "To try them, and them alone, once more (finished slides are kept), with the profile of this run for PROFILE "
        "(`slurm` or `profiles/local`, say):\n\n"
        f"```\nsnakemake --profile PROFILE{overlays} --forcerun {targets} -- results/catalog/summary.md\n```\n\n"
        "Where the slide table was changed since, run all first. The next run of all then makes the features of those that tasks name, and "
        "trains the aggregators of these tasks again."
    )


def catalog(
    slides_table: Path,
    cohort: Path,
    attrition: Path,
    excluded: Path,
    tissue: list[Path],
    tiles: list[Path],
    catalog: Path,
    failures: Path,
    summary: Path,
    outdated: Path,
    results: Path,
    named: Path,
    configfile: list[Path] = [],  # noqa: B006
) -> None:
    """Join what became of every slide.

    `outdated` lists which of the features and predictions in `results` were made from other tiles. `named` keeps, from run
    to run, every slide that a table named. `configfile`: the overlays of the run, for the command that the summary offers.
    """
    accounts = account(
        read_slides(slides_table), pd.read_parquet(cohort), pd.read_csv(excluded, dtype=str), _joined(tissue), _joined(tiles)
    )
    write_text(failures, accounts.loc[accounts["status"] == "failed", ["slide", "shard", "stage", "reason", "path"]].to_csv(index=False))
    ever = ever_named(accounts, named)
    write_text(summary, summarise(accounts, pd.read_csv(attrition), configfile, int((~ever["in_table"]).sum())))
    write_text(named, ever.to_csv(index=False))
    write_text(outdated, find_outdated(results, accounts).to_csv(index=False))
    with atomic_path(catalog) as part:
        accounts.to_parquet(part, index=False)


def _joined(tables: list[Path]) -> pd.DataFrame:
    """The shards' tables as one; a shard without slides adds nothing."""
    found = [pd.read_parquet(table) for table in tables]
    return pd.concat([table for table in found if len(table)] or found[:1], ignore_index=True)


if __name__ == "__main__":
    run(catalog)
