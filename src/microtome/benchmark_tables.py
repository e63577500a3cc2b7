"""What the benchmark found, as tables: the AUC of each encoder on each task, the pairs of encoders, and the slides left out.

An AUC is that of the last epoch on the validation slides, replicas of a split averaged.
"""

from pathlib import Path

import pandas as pd

from microtome.runs import final_auc, labelled
from microtome.settings import TablesSettings
from microtome.statistics import summary

NAMED = 5  # slides that a row of the table shown names


def auc_table(runs: pd.DataFrame, settings: TablesSettings) -> pd.DataFrame:
    """A row a task and encoder: label, and of the final AUC over splits mean, sd, low and high (`statistics.summary`), and their number."""
    rows = []
    for (task, encoder), of_one in final_auc(runs).groupby(["task", "encoder"], sort=False):
        found = summary(of_one["auc"].to_numpy(), settings.bootstrap, settings.seed)
        numbers = {"mean": found.mean, "sd": found.sd, "low": found.low, "high": found.high, "splits": len(of_one)}
        rows.append({"task": task, "encoder": encoder, "label": labelled(str(encoder), settings.labels), **numbers})
    return pd.DataFrame(rows)


def auc_overview(aucs: pd.DataFrame) -> pd.DataFrame:
    """Encoders down, tasks across, in three decimals: "mean (sd)", and below it "[low, high]"; of one split the mean alone."""
    rows = aucs.to_dict("records")
    mean = [f"{row['mean']:.3f}" + (f" ({row['sd']:.3f})" if row["splits"] > 1 else "") for row in rows]
    interval = [f"[{row['low']:.3f}, {row['high']:.3f}]" if row["splits"] > 1 else "" for row in rows]
    both = pd.concat([aucs.assign(shown=shown, line=line) for line, shown in enumerate((mean, interval))])
    wide = both.pivot(index=["encoder", "line"], columns="task", values="shown")
    wide = wide.reindex(index=pd.MultiIndex.from_product([aucs["encoder"].unique(), range(2)]), columns=aucs["task"].unique()).fillna("")
    labels = aucs.drop_duplicates("encoder")["label"]
    wide.insert(0, "encoder", [text for label in labels for text in (label, "")])
    return wide.reset_index(drop=True).rename_axis(None, axis=1)


def differences_overview(pairs: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """Every pair of `comparisons.pairwise`: "difference [low, high]" in three decimals, p and its Holm-adjusted value in two digits.

    Where all splits differ by the same, or there is one split, nothing can be tested and nothing stands there.
    """
    named = {"task": pairs["task"], **{side: [labelled(name, labels) for name in pairs[side]] for side in ("first", "second")}}
    ends = [f" [{low:.3f}, {high:.3f}]" if pd.notna(low) else "" for low, high in zip(pairs["low"], pairs["high"], strict=True)]
    difference = [f"{mean:.3f}{interval}" for mean, interval in zip(pairs["difference"], ends, strict=True)]
    p = {name: ["" if pd.isna(p) else f"{p:.2g}" for p in pairs[column]] for name, column in (("p", "p"), ("p (Holm)", "p_holm"))}
    return pd.DataFrame({**named, "difference [95 % interval]": difference, **p, "splits": pairs["splits"]})


def excluded_table(excluded: list[Path]) -> pd.DataFrame:
    """A row a task, encoder and slide without features: task, encoder, slide, reason. `excluded`: gma/{task}/{encoder}/excluded.csv."""
    tables = [pd.read_csv(path, dtype=str).assign(task=path.parent.parent.name, encoder=path.parent.name) for path in excluded]
    return pd.concat(tables, ignore_index=True)[["task", "encoder", "slide", "reason"]]


def excluded_overview(excluded: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """A row a task, encoder and reason: how many slides, and the first `NAMED` of them. Where none is left out, a row that says so."""
    if excluded.empty:
        return pd.DataFrame([{"task": "all", "encoder": "all", "reason": "none is left out", "slides": 0, "which": ""}])
    groups = excluded.groupby(["task", "encoder", "reason"], sort=False)["slide"]
    named = groups.agg(lambda slides: ", ".join(slides[:NAMED]) + ", …" * (len(slides) > NAMED))
    table = pd.DataFrame({"slides": groups.size(), "which": named}).reset_index()
    return table.assign(encoder=[labelled(encoder, labels) for encoder in table["encoder"]])
