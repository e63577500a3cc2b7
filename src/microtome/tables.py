"""The tables: the cohort by organ, what left it and why, the tasks, and what the benchmark found (`benchmark_tables`).

Bytes are those of the tiles' JPEG archives.
"""

from pathlib import Path

import pandas as pd

from microtome.benchmark_tables import auc_overview, auc_table, differences_overview, excluded_overview, excluded_table
from microtome.catalog import size
from microtome.command_line import run
from microtome.comparisons import aucs_on_the_same_slides, pairwise, val_over_train
from microtome.runs import read_runs
from microtome.settings import TablesSettings
from microtome.splits import SPLIT, TRAIN
from microtome.statistics import MONTE_CARLO
from microtome.table_files import write_table

STATUSES = ["ok", "empty", "failed", "excluded"]
REASONS = 25
COHORT_NAMES = {
    "slides": "slides in the table",
    "patients": "patients in the table",
    "ok": "with tiles",
    "ok_patients": "patients with tiles",
    "ok_pretrain": "with tiles, for pretraining",
}


def cohort_table(catalog: pd.DataFrame) -> pd.DataFrame:
    """A row an organ, those with most tiles first, and one for all: slides and patients of the slide table, slides by what became of them.

    `ok_patients`: patients with an ok slide; `ok_pretrain`: ok slides that encoders may be trained on. `catalog`: catalog/slides.parquet.
    """
    rows = sorted((_of_organ(str(organ), slides) for organ, slides in catalog.groupby("organ")), key=lambda row: -int(str(row["tiles"])))
    return pd.DataFrame([*rows, _of_organ("all", catalog)])


def _of_organ(organ: str, slides: pd.DataFrame) -> dict[str, object]:
    usable = slides[slides["status"] == "ok"]
    fates = {status: int((slides["status"] == status).sum()) for status in STATUSES}
    sizes = {"ok_patients": usable["patient"].nunique(), "ok_pretrain": int(usable["pretrain"].sum())}
    in_table = {"organ": organ, "slides": len(slides), "patients": slides["patient"].nunique()}
    return {**in_table, **fates, **sizes, "tiles": int(usable["tiles"].sum()), "bytes": int(usable["bytes"].sum())}


def cohort_overview(cohort: pd.DataFrame) -> pd.DataFrame:
    """The cohort table under names that say what is counted, with sizes that a person reads."""
    return cohort.assign(bytes=[size(size_b) for size_b in cohort["bytes"]]).rename(columns={**COHORT_NAMES, "bytes": "size of the tiles"})


def left_table(catalog: pd.DataFrame) -> pd.DataFrame:
    """Slides of the table that have no tiles, by status, stage and reason, most first."""
    left = catalog[catalog["status"] != "ok"]
    counts = left.groupby(["status", "stage", "reason"]).size().rename("slides").reset_index()
    return counts.sort_values("slides", ascending=False, kind="stable", ignore_index=True)


def left_overview(left: pd.DataFrame) -> pd.DataFrame:
    """The commonest reasons, and how many slides left for others."""
    rest = {"status": "any", "stage": "any", "reason": f"{len(left) - REASONS} other reasons", "slides": left["slides"][REASONS:].sum()}
    return pd.concat([left[:REASONS], pd.DataFrame([rest])]) if len(left) > REASONS else left


def task_table(catalog: pd.DataFrame, splits: dict[str, pd.DataFrame], settings: TablesSettings) -> pd.DataFrame:
    """A row a task: origin, kind and disease, slides of each class, patients, organs, scanners. `splits`: splits/{task}.csv by task.

    `without tiles`: slides of the task that are empty or failed, and so are in no training or validation. Splits as they are, drawn or
    brought along: how many, and the mean share of the slides that is for training.
    """
    rows = []
    for task, table in splits.items():
        known = settings.tasks[task]
        slides = table.merge(catalog[["slide", "organ", "scanner", "status"]], on="slide", how="left")
        classes = {f"class {label}": int(count) for label, count in slides["target"].value_counts().sort_index().items()}
        without = {"without tiles": int((slides["status"] != "ok").sum())}
        meant = {"task": task, "origin": known.origin, "kind": known.kind, "disease": known.disease}
        sides = table.filter(regex=SPLIT)
        judged = {"splits": sides.shape[1], "for training": f"{(sides == TRAIN).to_numpy().mean():.0%}"}
        counts = {"slides": len(slides), **without, **classes, "patients": slides["patient"].nunique(), **judged}
        rows.append({**meant, **counts, "organs": _listed(slides["organ"]), "scanners": _listed(slides["scanner"])})
    return pd.DataFrame(rows).convert_dtypes()


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{name} ({count})" for name, count in values.dropna().value_counts().sort_index().items())


def tables(
    *,
    catalog: Path,
    attrition: Path,
    splits: list[Path],
    runs: list[Path],
    predictions: list[Path],
    excluded: list[Path],
    folder: Path,
    settings: TablesSettings,
) -> None:
    """Write cohort, attrition, left, tasks, auc, differences and excluded into `folder`, each as CSV, Markdown, LaTeX and HTML."""
    slides = pd.read_parquet(catalog)
    cohort, left = cohort_table(slides), left_table(slides)
    write_table(folder / "cohort", "The cohort by organ", cohort, cohort_overview(cohort))
    write_table(folder / "attrition", "From the slide table to the cohort", pd.read_csv(attrition))
    write_table(folder / "left", "Slides without tiles, and why", left, left_overview(left))
    tasks = {path.stem: pd.read_csv(path, dtype={"slide": str, "patient": str}, keep_default_na=False) for path in splits}
    write_table(folder / "tasks", "The tasks", task_table(slides, tasks, settings))
    aucs = auc_table(read_runs(runs), settings)
    title = "Validation AUC after the last epoch: mean (sd) [95 % bootstrap interval] over splits"
    write_table(folder / "auc", title, aucs, auc_overview(aucs), note=f"{title}. {MONTE_CARLO}")
    pairs = pairwise(aucs_on_the_same_slides(predictions), {task: val_over_train(table) for task, table in tasks.items()})
    shown = differences_overview(pairs, settings.labels)
    write_table(folder / "differences", "Differences of validation AUC, pair by pair", pairs, shown, note=MONTE_CARLO)
    without = excluded_table(excluded)
    write_table(folder / "excluded", "Slides left out of the benchmark", without, excluded_overview(without, settings.labels))


if __name__ == "__main__":
    run(tables)
