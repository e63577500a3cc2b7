"""Slide-level tasks: a table of slides and labels, checked against the cohort.

A task table is a CSV with the columns `slide` and `target`; the target is a class, 0 to k - 1 (0 or 1 where there are two). The patient of
a slide comes from the cohort.
"""

from pathlib import Path

import pandas as pd

from microtome.errors import UserError
from microtome.user_table import read_user_table

COLUMNS = ["slide", "target"]
CLASS = r"0|[1-9]\d?"  # a task of a hundred classes or more is a column mistaken for labels
SHOWN = 5  # offending slides that an error names


def read_task(table: Path) -> pd.DataFrame:
    """The slides of a task and their labels: slide str, target int64 (0 to k - 1, each of them there), sorted by slide.

    Raises:
        UserError: no such file, a column that is missing, no rows, a label that is missing or no class, a slide that is doubled,
            slides of one class only, or a class below the highest without a slide.
    """
    if not table.is_file():
        raise UserError(f"{table}: no such task table. Expected a CSV with the columns slide and target (0, 1, …).")
    task = read_user_table(table)
    missing = [column for column in COLUMNS if column not in task.columns]
    if missing:
        raise UserError(f"{table}: missing: {', '.join(missing)}; found {', '.join(task.columns)}. Expected the columns slide and target.")
    task = task[COLUMNS].reset_index(drop=True)
    if task.empty:
        raise UserError(f"{table}: no rows. Expected a slide a line and its target (0, 1, …).")
    _refuse(table, task, task["target"] == "", "slides without a label", "Label them, or take them out of the table.")
    wrong = ~task["target"].str.fullmatch(CLASS)
    _refuse(table, task, wrong, "slides whose target is no class", "Expected 0 or 1, or 0 to k - 1 in a task of k classes.")
    _refuse(table, task, task["slide"].duplicated(keep=False), "slides that occur more than once", "Keep one row of each.")
    checked: pd.DataFrame = task.astype({"target": "int64"}).sort_values("slide", ignore_index=True)
    _check_classes(table, checked["target"])
    return checked


def with_patients(table: Path, task: pd.DataFrame, slides: pd.DataFrame) -> pd.DataFrame:
    """The `task` read from `table` with each slide's patient, taken from `slides` (the cohort: slide, patient): slide, patient, target.

    Raises:
        UserError: slides that the cohort does not have.
    """
    slides = slides[slides["slide"].isin(task["slide"])]  # a few thousand of perhaps 423,563, before what is slow
    remedy = "Expected slides of the slide table that the cohort keeps (results/cohort/excluded.csv, once made, has the others)."
    _refuse(table, task.assign(target=""), ~task["slide"].isin(slides["slide"]), "slides that are not in the cohort", remedy)
    with_patient: pd.DataFrame = task.merge(slides[["slide", "patient"]], on="slide", how="left")
    return with_patient[["slide", "patient", "target"]]


def _check_classes(table: Path, targets: "pd.Series[int]") -> None:
    found = sorted(targets.unique())
    gone = sorted(set(range(max(found))) - set(found))
    if len(found) == 1:
        raise UserError(f"{table}: all {len(targets)} slides are of class {found[0]}. Expected slides of two classes or more: 0, 1, …")
    if gone:
        named = ", ".join(map(str, gone[:SHOWN])) + (", …" if len(gone) > SHOWN else "")
        raise UserError(
            f"{table}: the highest class is {max(found)}, and no slide is of class {named}. Expected 0 to k - 1: number them so."
        )


def _refuse(table: Path, task: pd.DataFrame, wrong: "pd.Series[bool]", what: str, remedy: str) -> None:
    if wrong.any():
        named = (task["slide"] + " (" + task["target"].astype(str) + ")")[wrong].head(SHOWN).str.removesuffix(" ()")
        more = f" and {int(wrong.sum()) - SHOWN} more" if wrong.sum() > SHOWN else ""
        raise UserError(f"{table}: {what}: {', '.join(named)}{more}. {remedy}")
