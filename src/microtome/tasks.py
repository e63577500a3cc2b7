"""Slide-level tasks: a table of slides and labels, checked against the cohort.

A task table is a CSV with the columns `slide` and `target`; the target is 0 or 1. The patient of a slide comes from the cohort.
"""

from pathlib import Path

import pandas as pd

from microtome.errors import UserError

COLUMNS = ["slide", "target"]
CLASSES = ("0", "1")
SHOWN = 5  # offending slides that an error names


def read_task(table: Path) -> pd.DataFrame:
    """The slides of a task and their labels: slide str, target int64 (0 or 1), sorted by slide.

    Raises:
        UserError: no such file, a column that is missing, no rows, a label that is missing or not 0 or 1, a slide that is doubled,
            or slides of one class only.
    """
    if not table.is_file():
        raise UserError(f"{table}: no such task table. Expected a CSV with the columns slide and target (0 or 1).")
    task = pd.read_csv(table, dtype=str, keep_default_na=False, comment="#", skipinitialspace=True)
    missing = [column for column in COLUMNS if column not in task.columns]
    if missing:
        raise UserError(f"{table}: missing: {', '.join(missing)}; found {', '.join(task.columns)}. Expected the columns slide and target.")
    task = task[COLUMNS].apply(lambda column: column.str.strip())
    if task.empty:
        raise UserError(f"{table}: no rows. Expected a slide a line and its target (0 or 1).")
    _refuse(table, task, task["target"] == "", "slides without a label", "Label them, or take them out of the table.")
    _refuse(table, task, ~task["target"].isin(CLASSES), "slides whose target is neither 0 nor 1", "Only binary tasks are known.")
    _refuse(table, task, task["slide"].duplicated(keep=False), "slides that occur more than once", "Keep one row of each.")
    if task["target"].nunique() == 1:
        raise UserError(f"{table}: all {len(task)} slides are of class {task['target'].iloc[0]}. Expected slides of both classes, 0 and 1.")
    checked: pd.DataFrame = task.astype({"target": "int64"}).sort_values("slide", ignore_index=True)
    return checked


def with_patients(table: Path, task: pd.DataFrame, slides: pd.DataFrame) -> pd.DataFrame:
    """The `task` read from `table` with each slide's patient, taken from `slides` (the cohort: slide, patient): slide, patient, target.

    Raises:
        UserError: slides that the cohort does not have.
    """
    remedy = "Expected slides of the slide table that the cohort keeps (results/cohort/excluded.csv says which it does not)."
    _refuse(table, task, ~task["slide"].isin(slides["slide"]), "slides that are not in the cohort", remedy)
    with_patient: pd.DataFrame = task.merge(slides[["slide", "patient"]], on="slide", how="left")
    return with_patient[["slide", "patient", "target"]]


def _refuse(table: Path, task: pd.DataFrame, wrong: "pd.Series[bool]", what: str, remedy: str) -> None:
    if wrong.any():
        named = (task["slide"] + " (" + task["target"].astype(str) + ")")[wrong].head(SHOWN).str.removesuffix(" ()")
        more = f" and {int(wrong.sum()) - SHOWN} more" if wrong.sum() > SHOWN else ""
        raise UserError(f"{table}: {what}: {', '.join(named)}{more}. {remedy}")
