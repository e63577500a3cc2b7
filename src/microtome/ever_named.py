"""Every slide that a slide table ever named, and what became of it: `cohort` notes the names, `catalog` the accounts.

A slide that left the table keeps its last account.
"""

from pathlib import Path

import pandas as pd

COLUMNS = ["slide", "path", "status", "stage", "reason", "tiles"]
NO_ACCOUNT: dict[str, str | int] = {
    "status": "named",
    "stage": "cohort",
    "reason": "no catalog was made while the slide table had it",
    "tiles": 0,
}


def names_noted(slides: pd.DataFrame, before: Path) -> pd.DataFrame:
    """`COLUMNS` and `in_table` of every slide that a table named, with new ones among `slides` (slide, path), by slide.

    `before` is the file that the last run left of this; there may be none.
    """
    known = _read(before)
    new = slides.loc[~slides["slide"].isin(known["slide"]), ["slide", "path"]].assign(**NO_ACCOUNT)
    noted = pd.concat([known, new]) if len(known) else new
    return noted.assign(in_table=noted["slide"].isin(slides["slide"])).sort_values("slide", ignore_index=True)


def ever_named(accounts: pd.DataFrame, before: Path) -> pd.DataFrame:
    """The same, with an account of each slide that the table has now."""
    now, known = accounts[COLUMNS].assign(in_table=True), _read(before)
    gone = known[~known["slide"].isin(now["slide"])].assign(in_table=False)
    return (pd.concat([now, gone]) if len(gone) else now).sort_values("slide", ignore_index=True)


def _read(before: Path) -> pd.DataFrame:
    if not before.is_file():
        return pd.DataFrame(columns=COLUMNS)
    texts = {column: str for column in COLUMNS if column != "tiles"}
    return pd.read_csv(before, usecols=COLUMNS, dtype=texts, keep_default_na=False)[COLUMNS]
