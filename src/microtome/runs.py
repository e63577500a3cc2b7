"""What the benchmark measured, as one table: the `runs.csv` of every task and encoder, and its final AUCs.

An encoder is named by its folder, `gma/{task}/{encoder}/runs.csv`. A checkpoint of a run is `<name>@<pseudo-epoch>`.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from microtome.errors import UserError

COLUMNS = ["split", "replica", "epoch", "loss", "auc"]
CHECKPOINT = re.compile(r"(.+)@(\d+)")


def read_runs(paths: list[Path]) -> pd.DataFrame:
    """The runs of all tasks and encoders: task, encoder, split, replica, epoch, loss (of training; NaN at epoch 0), auc.

    Raises:
        UserError: a file that lacks a column or has no row.
    """
    tables = []
    for path in paths:
        table = pd.read_csv(path)
        missing = [column for column in COLUMNS if column not in table]
        if missing or table.empty:
            found = f"found {', '.join(table.columns)}" if missing else "found no row"
            raise UserError(f"{path}: expected a row a run and epoch with the columns {', '.join(COLUMNS)}; {found}. Run `gma` again.")
        tables.append(table[COLUMNS].assign(task=path.parent.parent.name, encoder=path.parent.name))
    return pd.concat(tables, ignore_index=True)[["task", "encoder", *COLUMNS]]


def base_name(encoder: str) -> str:
    """The encoder without its pseudo-epoch."""
    found = CHECKPOINT.fullmatch(encoder)
    return found.group(1) if found else encoder


def pseudo_epoch_of(encoder: str) -> int | None:
    """The pseudo-epoch of a checkpoint; None for an encoder that is no checkpoint."""
    found = CHECKPOINT.fullmatch(encoder)
    return int(found.group(2)) if found else None


def last_checkpoints(encoders: Iterable[str]) -> list[str]:
    """Of each run its last checkpoint, and all other encoders, in order of first appearance."""
    last: dict[str, str] = {}
    for encoder in encoders:
        name = base_name(encoder)
        if name not in last or (pseudo_epoch_of(encoder) or 0) > (pseudo_epoch_of(last[name]) or 0):
            last[name] = encoder
    return list(last.values())


def final_auc(runs: pd.DataFrame) -> pd.DataFrame:
    """The AUC of the last epoch, not of the best, replicas of a split averaged: task, encoder, split, auc, in order of appearance."""
    last = runs[runs["epoch"] == runs.groupby(["task", "encoder"])["epoch"].transform("max")]
    return last.groupby(["task", "encoder", "split"], sort=False)["auc"].mean().reset_index()


def labelled(encoder: str, labels: Mapping[str, str]) -> str:
    """What a legend or a table calls an encoder: its label, or its id where it has none."""
    return labels.get(encoder, encoder)
