"""Which patients tasks share with pretraining, and with each other: counted and said, whatever was decided about it.

`schedule.exclude_tasks` keeps a task's patients out of the schedules. A patient counts as seen where any of its slides gives tiles to any
pseudo-epoch; as a validation patient where it is one in any of the task's splits. Tasks may share patients: each has its own aggregators.
"""

import sys
from itertools import combinations
from pathlib import Path

import pandas as pd

from microtome.command_line import run
from microtome.table_files import write_table

SHARED = ["task", "other", "patients", "other_patients", "shared_patients", "shared_slides"]
SEEN = (
    "Encoders have seen tiles of these patients, without labels: the task is not judged on new patients. "
    "schedule.exclude_tasks keeps them out."
)
APART = "Each task trains its own aggregators, so nothing leaks, but results of tasks that share patients are no independent evidence."


def overlap_table(catalog: pd.DataFrame, scheduled: pd.Series, splits: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a task. `catalog`: slide, patient; `scheduled`: slides that give tiles; `splits`: splits/{task}.csv by task."""
    seen_slides = set(scheduled)
    seen_patients = set(catalog["patient"][catalog["slide"].isin(seen_slides)])
    rows = []
    for task, table in splits.items():
        validation = table[table.filter(regex=r"^mccv\d+$").isin(["val"]).any(axis=1)]
        patients = validation["patient"].drop_duplicates()
        seen = int(patients.isin(seen_patients).sum())
        counts = {"validation_patients": len(patients), "in_pretraining": seen, "fraction": round(seen / max(1, len(patients)), 4)}
        slides = {"validation_slides": len(validation), "slides_in_pretraining": int(validation["slide"].isin(seen_slides).sum())}
        rows.append({"task": task, **counts, **slides})
    return pd.DataFrame(rows)


def shared_table(splits: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row for every two tasks, `SHARED`: their patients, and how many patients and slides are in both."""
    rows = []
    for (task, one), (other, two) in combinations(splits.items(), 2):
        patients, others = set(one["patient"]), set(two["patient"])
        sizes = {"patients": len(patients), "other_patients": len(others)}
        shared = {"shared_patients": len(patients & others), "shared_slides": len(set(one["slide"]) & set(two["slide"]))}
        rows.append({"task": task, "other": other, **sizes, **shared})
    return pd.DataFrame(rows, columns=SHARED)


def seen_messages(table: pd.DataFrame) -> list[str]:
    """What is to be said of `overlap_table`."""
    seen = table[table["in_pretraining"] > 0]
    return [
        f"{row.task}: {row.in_pretraining} of {row.validation_patients} validation patients are pretrained on." for row in seen.itertuples()
    ]


def shared_messages(table: pd.DataFrame) -> list[str]:
    """What is to be said of `shared_table`."""
    rows = table[table["shared_patients"] > 0].itertuples()
    return [f"{row.task} ({row.patients} patients) and {row.other} ({row.other_patients}) share {row.shared_patients}." for row in rows]


def overlap(catalog: Path, quota: Path, splits: list[Path], folder: Path) -> None:
    """Write overlap and shared into `folder`, as CSV, Markdown, LaTeX and HTML, and warn; a task is called as its splits' file."""
    scheduled = pd.read_parquet(quota, columns=["slide"])["slide"].drop_duplicates()
    tables = {path.stem: pd.read_csv(path, dtype={"slide": str, "patient": str}, keep_default_na=False) for path in splits}
    seen = overlap_table(pd.read_parquet(catalog, columns=["slide", "patient"]), scheduled, tables)
    shared = shared_table(tables)
    for name, title, table, messages, meaning in (
        ("overlap", "Validation patients that pretraining has seen", seen, seen_messages(seen), SEEN),
        ("shared", "Patients that tasks share", shared, shared_messages(shared), APART),
    ):
        said = " ".join([*messages, meaning]) if messages else "None."
        write_table(folder / name, title, table, sections={"": (said, table)})
        if messages:
            print(f"warning: {said}", file=sys.stderr)


if __name__ == "__main__":
    run(overlap)
