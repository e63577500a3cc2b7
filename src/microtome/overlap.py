"""How many of each task's validation patients an encoder may have seen in pretraining: counted, whatever was decided about it.

`schedule.exclude_tasks` keeps a task's patients out of the schedules. A patient counts as seen where any of its slides gives tiles to any
pseudo-epoch; as a validation patient where it is one in any of the task's splits.
"""

from pathlib import Path

import pandas as pd

from microtome.command_line import run
from microtome.table_files import write_table


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


def overlap(catalog: Path, quota: Path, splits: list[Path], folder: Path) -> None:
    """Write the table into `folder`, as CSV, Markdown, LaTeX and HTML; the name of a task is that of its splits' file."""
    scheduled = pd.read_parquet(quota, columns=["slide"])["slide"].drop_duplicates()
    tables = {path.stem: pd.read_csv(path, dtype={"slide": str, "patient": str}) for path in splits}
    table = overlap_table(pd.read_parquet(catalog, columns=["slide", "patient"]), scheduled, tables)
    write_table(folder / "overlap", "Validation patients that pretraining has seen", table)


if __name__ == "__main__":
    run(overlap)
