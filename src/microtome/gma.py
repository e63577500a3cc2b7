"""The benchmark of one encoder on one task: gated attention trained on every Monte-Carlo split, in replicas that differ by their seed.

The reported number is the last epoch's, whatever the best was. On a GPU all runs advance together; without one they spread over processes
of one thread each, and what comes out does not depend on how many there are.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from microtome.atomic import atomic_path, write_text
from microtome.bags import Bags, read_bags
from microtome.command_line import run
from microtome.errors import UserError
from microtome.gma_attention import MeanAttention
from microtome.gma_training import Epoch, Split, train_all
from microtome.outdated import digest_of, digests_in, made_from_others, write_noted
from microtome.settings import GmaSettings
from microtome.splits import SPLIT, TRAIN, VAL, number_of

SHOWN = 5  # slides that an error names


def read_splits(table: Path, bags: Bags) -> list[Split]:
    """The splits of `table` restricted to the slides of `bags`.

    Raises:
        UserError: a split in which a class is missing from a side, because slides have no features.
    """
    labelled = pd.read_csv(table, dtype={"slide": str}).set_index("slide")
    known = range(labelled["target"].max() + 1)
    columns = labelled.loc[bags.slides].filter(regex=SPLIT)
    sides = {str(name): (np.flatnonzero(columns[name] == TRAIN), np.flatnonzero(columns[name] == VAL)) for name in columns}
    for name, pair in sides.items():
        for side, slides in zip((TRAIN, VAL), pair, strict=True):
            gone = ", ".join(str(target) for target in known if target not in set(bags.targets[slides].tolist()))
            if gone:
                raise UserError(
                    f"{table}: split {name} has no slide of class {gone} left on its {side} side, once slides without features are out "
                    f"({len(bags.slides)} have them). Expected every class on both sides: mend those slides, or add patients to the task."
                )
    return [Split(number_of(name), *pair) for name, pair in sides.items()]


def _say_excluded(without: pd.DataFrame, slides: int) -> None:
    """A line in the log for each reason for which slides are left out, with the slides."""
    for reason, of_reason in without.groupby("reason"):
        print(
            f"{len(of_reason)} of {len(without) + slides} slides are left out, {reason}: {', '.join(of_reason['slide'])}", file=sys.stderr
        )


def gma(
    *,
    splits: Path,
    features: list[Path],
    catalog: Path,
    runs: Path,
    predictions: Path,
    attention: Path,
    excluded: Path,
    settings: GmaSettings,
    workers: int,
) -> None:
    """Train every split and replica of a task on one encoder's features; write the epochs, and of the last one predictions and attention.

    Writes:
        runs: split, replica, epoch, loss (empty at epoch 0), val_loss, auc. predictions: split, replica, slide, target, probability_0 to
        probability_{k - 1} (last epoch, validation slides), threshold on probability_1 (from the training slides; NaN where k > 2).
        attention: slide, tile, attention, runs (see `MeanAttention`). excluded: slide, reason, of the slides left out.

    Raises:
        UserError: features were made from other tiles than `catalog` has; and as `read_bags` and `read_splits`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = pd.read_csv(splits, dtype={"slide": str})
    made_from = _tiles_digest(features, task, catalog)  # refuses outdated features before all of them are read
    bags, without = read_bags(features, task, device)
    _say_excluded(without, len(bags.slides))
    todo = read_splits(splits, bags)
    epochs, last, looked = [], [], MeanAttention(bags.slides, bags.first)
    for done in train_all(bags, todo, settings, device, workers):
        looked.add(done.split.val, done.attention)
        run_of = {"split": done.split.number, "replica": done.replica}
        epochs.append(pd.DataFrame(done.epochs).assign(**run_of))
        slides = {"slide": [bags.slides[slide] for slide in done.split.val], "target": bags.targets[done.split.val].numpy()}
        probabilities = {f"probability_{label}": done.probabilities[:, label] for label in range(bags.classes)}
        last.append(pd.DataFrame({**run_of, **slides, **probabilities, "threshold": done.threshold}))
    columns = ["split", "replica", *Epoch._fields]
    write_text(runs, pd.concat(epochs)[columns].to_csv(index=False))
    write_text(excluded, without.to_csv(index=False))
    with atomic_path(predictions) as part:
        write_noted(part, pd.concat(last, ignore_index=True), made_from)
    looked.write(attention)


def _tiles_digest(features: list[Path], task: pd.DataFrame, catalog: Path) -> str:
    """Of the tiles of the task's slides, as their features carry it on; raises UserError where the `catalog` has others."""
    made = pd.concat([pd.read_parquet(table) for table in features], ignore_index=True)
    mine = made[made["slide"].isin(task["slide"])]
    if gone := made_from_others(mine, catalog):
        named = ", ".join(gone[:SHOWN]) + ", …" * (len(gone) > SHOWN)
        raise UserError(
            f"the features of {len(gone)} slides ({named}) are of other tiles than the slides have now. "
            "Run again: the next run makes them anew, and then trains."
        )
    return digest_of(mine["slide"], digests_in(mine))


if __name__ == "__main__":
    run(gma)
