"""The tables: the cohort by organ, the tasks, and the final AUC of each encoder on each task; each as CSV and as Markdown.

Bytes are those of the tiles' JPEG archives. An AUC is that of the last epoch on the validation slides, replicas of a split averaged.
"""

from pathlib import Path

import pandas as pd

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.runs import final_auc, labelled, read_runs
from microtome.settings import TablesSettings

STATUSES = ["ok", "empty", "failed", "excluded"]


def cohort_table(catalog: pd.DataFrame) -> pd.DataFrame:
    """A row an organ, and one for all: the slides of the table, by what became of them; of the ok ones patients, tiles and bytes.

    `pretrain` is how many of the ok slides encoders may be trained on. `catalog`: catalog/slides.parquet.
    """
    rows = [_of_organ(str(organ), slides) for organ, slides in catalog.groupby("organ")]
    return pd.DataFrame([*rows, _of_organ("all", catalog)])


def _of_organ(organ: str, slides: pd.DataFrame) -> dict[str, object]:
    usable = slides[slides["status"] == "ok"]
    fates = {status: int((slides["status"] == status).sum()) for status in STATUSES}
    sizes = {"patients": usable["patient"].nunique(), "pretrain": int(usable["pretrain"].sum())}
    return {
        "organ": organ,
        "slides": len(slides),
        **fates,
        **sizes,
        "tiles": int(usable["tiles"].sum()),
        "bytes": int(usable["bytes"].sum()),
    }


def task_table(catalog: pd.DataFrame, splits: dict[str, pd.DataFrame], settings: TablesSettings) -> pd.DataFrame:
    """A row a task: origin, kind and disease, slides of each class, patients, organs, scanners. `splits`: splits/{task}.csv by task."""
    rows = []
    for task, table in splits.items():
        known = settings.tasks[task]
        slides = table.merge(catalog[["slide", "organ", "scanner"]], on="slide", how="left")
        classes = {f"class {label}": int(count) for label, count in slides["target"].value_counts().sort_index().items()}
        meant = {"task": task, "origin": known.origin, "kind": known.kind, "disease": known.disease}
        counts = {"slides": len(slides), **classes, "patients": slides["patient"].nunique()}
        rows.append({**meant, **counts, "organs": _listed(slides["organ"]), "scanners": _listed(slides["scanner"])})
    return pd.DataFrame(rows)


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


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown: whole numbers with thousands separated."""
    shown = table.map(lambda value: f"{value:,}" if isinstance(value, int) else "" if pd.isna(value) else str(value))
    aligned = ["right" if pd.api.types.is_numeric_dtype(kind) else "left" for kind in table.dtypes]
    return shown.to_markdown(index=False, colalign=aligned, disable_numparse=True) + "\n"


def tables(catalog: Path, splits: list[Path], runs: list[Path], folder: Path, settings: TablesSettings) -> None:
    """Write cohort, tasks and auc as .csv and .md into `folder`."""
    slides = pd.read_parquet(catalog)
    cohort = cohort_table(slides)
    tasks = task_table(slides, {path.stem: pd.read_csv(path) for path in splits}, settings)
    aucs = auc_table(read_runs(runs), settings.labels)
    for name, table, shown in (("cohort", cohort, cohort), ("tasks", tasks, tasks), ("auc", aucs, auc_overview(aucs))):
        write_text(folder / f"{name}.csv", table.to_csv(index=False))
        write_text(folder / f"{name}.md", markdown(shown))


if __name__ == "__main__":
    run(tables)
