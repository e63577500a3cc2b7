"""Monte-Carlo cross-validation: the fixed random splits that every encoder of a task is judged on.

Each split draws 80 % of the patients of each class for training, anew and independently of the other splits, so validation sets of
different splits overlap: that is the method, not a leak. Within a split no patient is on both sides (`group: patient`). A task table may
bring its own splits along, which are taken as they are.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.errors import UserError
from microtome.settings import SplitsSettings
from microtome.tasks import read_task, with_patients
from microtome.user_table import read_user_table

TRAIN, VAL = "train", "val"
OFF = 0.05  # a class is said to be split otherwise than it was to be, where its share differs by more
SPLIT = r"^mccv\d+$"


def split_names(repeats: int) -> list[str]:
    """The columns of a split table, as in OPAL's files: mccv1, mccv2, …"""
    return [f"mccv{number}" for number in range(1, repeats + 1)]


def number_of(name: str) -> int:
    """The number of a split, from the name of its column."""
    return int(name.removeprefix("mccv"))


def strata(task: pd.DataFrame, group: str) -> dict[int, list[str]]:
    """The groups (values of the column `group`: patients or slides) of each class, sorted.

    A patient with slides of several classes counts as one of the highest: having the condition anywhere is having it.
    """
    label = task.groupby(group)["target"].max()
    return {int(target): sorted(label.index[label == target]) for target in sorted(label.unique())}


def monte_carlo(groups: dict[int, list[str]], train_fraction: float, random: np.random.Generator) -> set[str]:
    """The groups of one training side: of each class the rounded fraction, but at least one group on either side."""
    train: set[str] = set()
    for members in groups.values():
        train.update(random.choice(np.array(members, dtype=object), train_size(len(members), train_fraction), replace=False))
    return train


def train_size(members: int, train_fraction: float) -> int:
    """How many of the groups of a class train: the rounded fraction, but at least one, and not all."""
    return min(max(round(train_fraction * members), 1), members - 1)


def check(table: Path, task: pd.DataFrame, groups: dict[int, list[str]], group: str) -> None:
    """Refuse a task that cannot be split: each class needs one group to train on and one to validate on.

    Raises:
        UserError: a class has fewer than two groups of its own.
    """
    classes = range(task["target"].max() + 1)
    few = [f"class {target} has {len(groups.get(target, []))}" for target in classes if len(groups.get(target, [])) < 2]
    if few:
        mixed = mixed_patients(task)
        note = f" ({len(mixed)} with slides of several classes count as their highest)" if mixed and group == "patient" else ""
        raise UserError(
            f"{table}: too few {group}s for a split: {', '.join(few)}{note}. Expected at least 2 {group}s of each class, "
            "one to train on and one to validate on; 5 give the 80/20 of the published protocol, and many come near it."
        )


def mixed_patients(task: pd.DataFrame) -> Sequence[str]:
    """The patients who have slides of several classes, sorted."""
    classes = task.groupby("patient")["target"].nunique()
    return sorted(classes.index[classes > 1])


def given_splits(table: Path, labelled: pd.DataFrame, group: str) -> pd.DataFrame:
    """The columns mccv1, mccv2, … that the task table brings along, as OPAL's files do, by number, in the order of `labelled`; maybe none.

    Raises:
        UserError: a column whose name is nearly that of a split, two of one number, a value that is neither train nor val, a side without
            slides of every class, a patient on both sides of a split that is to be by patient.
    """
    read = read_user_table(table)
    odd = [name for name in read.columns if re.match("mccv", str(name), re.IGNORECASE) and not re.match(SPLIT, str(name))]
    if odd:
        raise UserError(f"{table}: found the columns {', '.join(map(str, odd))}. Expected splits to be named mccv1, mccv2, …")
    names = sorted(map(str, read.filter(regex=SPLIT)), key=number_of)
    if len({number_of(name) for name in names}) < len(names):
        raise UserError(f"{table}: found the splits {', '.join(names)}, two of one number. Expected mccv1, mccv2, …: number them so.")
    given: pd.DataFrame = read.set_index("slide").loc[labelled["slide"], names].reset_index(drop=True)
    for name, sides in given.items():
        wrong = labelled["slide"][~sides.isin([TRAIN, VAL])]
        if len(wrong):
            raise UserError(f"{table}: {name} of slide {wrong.iloc[0]}: found {sides[wrong.index[0]]!r}, expected {TRAIN} or {VAL}.")
        if labelled.groupby(sides)["target"].nunique().reindex([TRAIN, VAL]).ne(labelled["target"].nunique()).any():
            raise UserError(f"{table}: {name} has not slides of every class on both sides. Mend the column, or take all of them out.")
        both = sides.groupby(labelled[group]).nunique()
        if (both > 1).any():
            remedy = "Mend the column, take all out to have splits drawn by patient, or set splits.group: slide, the published way."
            raise UserError(f"{table}: {name} has {group} {both.index[both > 1][0]} on both sides. {remedy}")
    return given


def splits(task: Path, slides: Path, splits: Path, settings: SplitsSettings) -> None:
    """Write slide, patient, target, mccv1 … mccvN (train or val) of a task table to `splits` (CSV, sorted by slide).

    Splits that the task table brings along are taken as they are; else they are drawn.
    """
    labelled = with_patients(task, read_task(task), pd.read_parquet(slides, columns=["slide", "patient"]))
    given = given_splits(task, labelled, settings.splits.group)
    drawn = given if len(given.columns) else draw_splits(task, labelled, settings)
    write_text(splits, pd.concat([labelled, drawn], axis=1).to_csv(index=False))


def draw_splits(table: Path, labelled: pd.DataFrame, settings: SplitsSettings) -> pd.DataFrame:
    """A column a split, in the order of `labelled`, drawn from the seed."""
    group = settings.splits.group
    groups = strata(labelled, group)
    check(table, labelled, groups, group)
    mixed = mixed_patients(labelled)
    if mixed and group == "patient":
        print(f"{table}: patients with slides of several classes are stratified as their highest: {', '.join(mixed)}", file=sys.stderr)
    for target, members in groups.items():
        share = train_size(len(members), settings.splits.train_fraction) / len(members)
        if abs(share - settings.splits.train_fraction) > OFF + 1e-9:
            wanted = f"not the {settings.splits.train_fraction:.0%} of splits.train_fraction"
            print(f"{table}: class {target} has {len(members)} {group}s: {share:.0%} of them train, {wanted}", file=sys.stderr)
    drawn = {}
    for number, name in enumerate(split_names(settings.splits.repeats), start=1):
        train = monte_carlo(groups, settings.splits.train_fraction, np.random.default_rng([settings.seed, number]))
        drawn[name] = np.where(labelled[group].isin(train), TRAIN, VAL)
    return pd.DataFrame(drawn)


if __name__ == "__main__":
    run(splits)
