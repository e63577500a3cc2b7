"""Slides that an earlier slide table named, and this one does not: what became of them is kept, by name."""

from pathlib import Path

import pandas as pd

COLUMNS = ["slide", "path", "status", "stage", "reason", "tiles"]


def ever_named(accounts: pd.DataFrame, before: Path) -> pd.DataFrame:
    """`COLUMNS` and `in_table` of every slide that this or an earlier table named, by slide; of those that are gone the last account.

    `before` is the file that the last run left of this; there may be none.
    """
    now = accounts[COLUMNS].assign(in_table=True)
    if not before.is_file():
        return now.sort_values("slide", ignore_index=True)
    known = pd.read_csv(before, dtype={column: str for column in COLUMNS if column != "tiles"}, keep_default_na=False)
    gone = known[~known["slide"].isin(now["slide"])].assign(in_table=False)
    return pd.concat([now, gone]).sort_values("slide", ignore_index=True)
