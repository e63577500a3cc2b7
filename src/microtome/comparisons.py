"""How encoders compare on the same splits: differences of AUC, split by split, with the test that Monte-Carlo splits allow.

Training sets of different splits overlap, so the splits' differences are correlated and an ordinary paired t-test finds far too much. The
corrected resampled t-test (Nadeau and Bengio 2003) widens the variance of the mean from 1/n to 1/n + validation/training slides.

A slide can lack the features of one encoder alone. What is compared are AUCs on the validation slides that all encoders have.
"""

import sys
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, t

from microtome.decisions import probabilities
from microtome.errors import UserError
from microtome.runs import last_checkpoints
from microtome.splits import SPLIT, TRAIN, VAL
from microtome.statistics import bootstrap_ends, bootstrap_means, macro_auc

CONFIDENCE = 0.95
DECIMALS = 12  # of an AUC that are no rounding error


@dataclass(frozen=True)
class Difference:
    """A mean difference over splits, the ends of its corrected confidence interval, and the two-sided p value of no difference."""

    mean: float
    low: float
    high: float
    p: float


def aucs_on_the_same_slides(predictions: list[Path]) -> pd.DataFrame:
    """The AUC of the last epoch, replicas of a split averaged, of the encoders that are compared: task, encoder, split, auc.

    Of a run its last checkpoint. A validation slide of a split counts where every encoder of the task predicted it; how many do not, is
    said on stderr. `predictions`: gma/{task}/{encoder}/predictions.parquet.

    Raises:
        UserError: of a class, no slide that every encoder predicted is left in a split, or no split at all.
    """
    shown = last_checkpoints(path.parent.name for path in predictions)
    parts = []
    for task in dict.fromkeys(path.parent.parent.name for path in predictions):
        of_task = [path for path in predictions if path.parent.parent.name == task and path.parent.name in shown]
        tables = {path.parent.name: pd.read_parquet(path) for path in of_task}
        common = _common(task, tables)
        for encoder, table in tables.items():
            parts.append(_split_aucs(task, table.merge(common)).assign(task=task, encoder=encoder))
    return pd.concat(parts, ignore_index=True)[["task", "encoder", "split", "auc"]]


def _common(task: str, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of split and slide that all tables have."""
    validated = {encoder: table[["split", "slide"]].drop_duplicates() for encoder, table in tables.items()}
    common = reduce(lambda one, other: one.merge(other), validated.values())
    for encoder, rows in validated.items():
        if len(rows) > len(common):
            left = f"{len(rows) - len(common)} of its {len(rows)} validations are of slides or splits that another encoder does not have"
            print(f"{task}, {encoder}: {left}; encoders are compared without them (gma/{task}/*/excluded.csv)", file=sys.stderr)
    return common


def _split_aucs(task: str, predictions: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (split, replica), of_run in predictions.groupby(["split", "replica"]):
        p, targets = probabilities(of_run), of_run["target"].to_numpy()
        gone = ", ".join(str(label) for label in range(p.shape[1]) if label not in targets)
        if gone:
            raise UserError(
                f"{task}: split {split} has no validation slide of class {gone} that all encoders have features of, so they cannot be "
                f"compared. Mend the slides of results/gma/{task}/*/excluded.csv, or leave out the encoder that lacks them."
            )
        rows.append((split, replica, macro_auc(targets, p)))
    if not rows:
        raise UserError(f"{task}: no split and slide was predicted by all encoders. Run `gma` of the task again, for all of them.")
    return pd.DataFrame(rows, columns=["split", "replica", "auc"]).groupby("split")["auc"].mean().reset_index()


def val_over_train(splits: pd.DataFrame) -> float:
    """Validation slides for each training slide, mean over the splits of a splits/{task}.csv."""
    sides = splits.filter(regex=SPLIT)
    return float(((sides == VAL).sum() / (sides == TRAIN).sum()).mean())


def corrected_difference(differences: ArrayLike, ratio: float) -> Difference:
    """The corrected resampled t-test of Nadeau and Bengio 2003, equation for repeated random splits, and its interval.

    With n differences of mean m and sample variance s², t = m / sqrt((1/n + ratio) s²) has n - 1 degrees of freedom. Where all
    differences are the same number (within rounding), or there is only one, no error can be estimated: interval and p are NaN, but for n
    zeros p is 1.

    Args:
        differences: of two encoders' AUCs on the same splits, [n]. ratio: validation slides for each training slide.
    """
    values = np.round(np.asarray(differences, dtype=np.float64), DECIMALS)
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return Difference(mean, 0.0, 0.0, 1.0) if mean == 0 and len(values) > 1 else Difference(mean, np.nan, np.nan, np.nan)
    error = float(np.sqrt((1 / len(values) + ratio) * values.var(ddof=1)))
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Difference(mean, mean - half, mean + half, float(2 * t.sf(abs(mean) / error, len(values) - 1)))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p values adjusted after Holm 1979 for having made that many tests; the smallest is multiplied by their number, and so down."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def pairwise(aucs: pd.DataFrame, ratios: dict[str, float]) -> pd.DataFrame:
    """Every pair of encoders on every task: task, first, second, difference (first minus second), low, high, p, p_holm, splits.

    Args:
        aucs: as `aucs_on_the_same_slides` returns them. ratios: `val_over_train` of each task.
    """
    tables = []
    for task, of_task in aucs.groupby("task", sort=False):
        wide = of_task.pivot(index="split", columns="encoder", values="auc")[list(of_task["encoder"].unique())]
        rows = []
        for first, second in combinations(wide.columns, 2):
            found = corrected_difference(wide[first] - wide[second], ratios[str(task)])
            rows.append({"task": task, "first": first, "second": second, "difference": found.mean, **_ends(found), "splits": len(wide)})
        table = pd.DataFrame(rows)
        if rows:
            table.insert(7, "p_holm", holm(table["p"]))
            tables.append(table)
    columns = ["task", "first", "second", "difference", "low", "high", "p", "p_holm", "splits"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _ends(found: Difference) -> dict[str, float]:
    return {"low": found.low, "high": found.high, "p": found.p}


def ranking(aucs: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Encoders of each task from best to worst: task, encoder, rank, rank_low, rank_high, mean, low, high.

    Splits are drawn with replacement, the same for all encoders; ends are 95 % percentile intervals of the mean and of the rank, missing
    where there is one split.
    """
    tables = []
    for task, of_task in aucs.groupby("task", sort=False):
        wide = of_task.pivot(index="encoder", columns="split", values="auc").loc[list(of_task["encoder"].unique())]
        low, high = bootstrap_ends(wide.to_numpy(), resamples, seed, CONFIDENCE)
        mean = wide.mean(axis=1).to_numpy()
        columns = {"rank": _ranks(mean), **_rank_ends(wide.to_numpy(), resamples, seed)}
        table = pd.DataFrame({"task": task, "encoder": wide.index, **columns, "mean": mean, "low": low, "high": high})
        tables.append(table.sort_values("rank", kind="stable"))
    return pd.concat(tables, ignore_index=True)


def _ranks(means: NDArray[np.float64]) -> NDArray[np.int64]:
    """[encoders, ...]: 1 is the best; those that are equal within rounding share the better rank."""
    return np.asarray(rankdata(-np.round(means, DECIMALS), method="min", axis=0)).astype(np.int64)


def _rank_ends(aucs: NDArray[np.float64], resamples: int, seed: int) -> dict[str, Any]:
    """`aucs` is [encoders, splits]."""
    if aucs.shape[1] == 1:
        unknown = pd.array([pd.NA] * len(aucs), dtype="Int64")
        return {"rank_low": unknown, "rank_high": unknown}
    ranks = _ranks(bootstrap_means(aucs, resamples, seed))
    low, high = np.quantile(ranks, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1, method="inverted_cdf").astype(int)
    return {"rank_low": low, "rank_high": high}
