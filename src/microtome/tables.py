"""The tables: the cohort by organ, what left it and why, the tasks, and the final AUC of each encoder on each task.

Bytes are those of the tiles' JPEG archives. An AUC is that of the last epoch on the validation slides, replicas of a split averaged.
"""

from pathlib import Path

import pandas as pd

from microtome.catalog import size
from microtome.command_line import run
from microtome.runs import final_auc, labelled, read_runs
from microtome.settings import TablesSettings
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

    `without tiles`: slides of the task that are empty or failed, and so are in no training or validation.
    """
    rows = []
    for task, table in splits.items():
        known = settings.tasks[task]
        slides = table.merge(catalog[["slide", "organ", "scanner", "status"]], on="slide", how="left")
        classes = {f"class {label}": int(count) for label, count in slides["target"].value_counts().sort_index().items()}
        without = {"without tiles": int((slides["status"] != "ok").sum())}
        meant = {"task": task, "origin": known.origin, "kind": known.kind, "disease": known.disease}
        counts = {"slides": len(slides), **without, **classes, "patients": slides["patient"].nunique()}
        rows.append({**meant, **counts, "organs": _listed(slides["organ"]), "scanners": _listed(slides["scanner"])})
    return pd.DataFrame(rows).convert_dtypes()


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{name} ({count})" for name, count in values.dropna().value_counts().sort_index().items())


def auc_table(runs: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """A row a task and encoder: label, mean and sample standard deviation (ddof 1) of the final AUC over splits, and their number."""
    aucs = final_auc(runs).groupby(["task", "encoder"], sort=False)["auc"].agg(["mean", "std", "size"]).reset_index()
    named = aucs.rename(columns={"std": "sd", "size": "splits"})
    named.insert(2, "label", [labelled(encoder, labels) for encoder in named["encoder"]])
    return named


def auc_overview(aucs: pd.DataFrame) -> pd.DataFrame:
    """Encoders down, tasks across, "mean (sd)" in three decimals: the table that a paper prints."""
    shown = [f"{mean:.3f}" if pd.isna(sd) else f"{mean:.3f} ({sd:.3f})" for mean, sd in zip(aucs["mean"], aucs["sd"], strict=True)]
    wide = aucs.assign(shown=shown).pivot(index="label", columns="task", values="shown")
    return wide.reindex(index=aucs["label"].unique(), columns=aucs["task"].unique()).rename_axis("encoder", axis=0).reset_index().fillna("")


def tables(catalog: Path, attrition: Path, splits: list[Path], runs: list[Path], folder: Path, settings: TablesSettings) -> None:
    """Write cohort, attrition, left, tasks and auc into `folder`, each as CSV, Markdown, LaTeX and HTML."""
    slides = pd.read_parquet(catalog)
    cohort, left = cohort_table(slides), left_table(slides)
    aucs = auc_table(read_runs(runs), settings.labels)
    write_table(folder / "cohort", "The cohort by organ", cohort, cohort_overview(cohort))
    write_table(folder / "attrition", "From the slide table to the cohort", pd.read_csv(attrition))
    write_table(folder / "left", "Slides without tiles, and why", left, left_overview(left))
    tasks = {path.stem: pd.read_csv(path, dtype={"slide": str, "patient": str}) for path in splits}
    write_table(folder / "tasks", "The tasks", task_table(slides, tasks, settings))
    write_table(folder / "auc", "Validation AUC after the last epoch, mean (sd) over splits", aucs, auc_overview(aucs))


if __name__ == "__main__":
    run(tables)
