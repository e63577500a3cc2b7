"""The label-free measures of all encoders as one table: a row an encoder, checkpoints of a run after its null.

`null`: random weights. `chance`: of the organ, 1 / organs that the accuracy is a mean over.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from microtome.command_line import run
from microtome.runs import labelled, pseudo_epoch_of
from microtome.settings import TablesSettings
from microtome.table_files import write_table

NAMES = {
    "label": "encoder",
    "dim": "dimension",
    "rankme": "RankMe",
    "odcorr": "ODCorr (lower is better)",
    "knn_accuracy": "k-NN organ accuracy",
    "chance": "chance",
}
DECIMALS = {"rankme": 1, "odcorr": 3, "knn_accuracy": 3, "chance": 3}


def read_measures(paths: list[Path], labels: Mapping[str, str]) -> pd.DataFrame:
    """The rows of `quality/{encoder}/measures.csv` in the order of `paths`.

    encoder, label, pseudo_epoch (Int64, none for a baseline), null, tiles, dim, rankme, odcorr, knn_accuracy, organs, chance.
    """
    table = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    table.insert(1, "label", [labelled(encoder, labels) for encoder in table["encoder"]])
    table.insert(2, "pseudo_epoch", table["encoder"].map(pseudo_epoch_of).astype("Int64"))
    return table


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """The table under names that say what is measured, rounded; nothing for what could not be measured."""
    shown = {name: ["" if pd.isna(value) else f"{value:.{digits}f}" for value in table[name]] for name, digits in DECIMALS.items()}
    return table.assign(**shown)[list(NAMES)].rename(columns=NAMES)


def quality_table(measures: list[Path], stem: Path, settings: TablesSettings) -> None:
    """Write `stem` as CSV, Markdown, LaTeX and HTML."""
    table = read_measures(measures, settings.labels)
    tiles = f"{table['tiles'].iloc[0]:,}"
    write_table(stem, f"Encoders judged without labels, on the same {tiles} tiles", table, overview(table))


if __name__ == "__main__":
    run(quality_table)
