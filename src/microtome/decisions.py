"""From probabilities to decisions: a threshold chosen on the training slides, and what it does on the validation slides.

AUC asks whether slides are ranked rightly; this asks whether the probabilities can be used as they are. A task of two classes has targets
0 and 1 and a threshold on the probability of class 1; in a task of more classes a slide is called the most probable one. The rule
`decisions` writes the table, `figure_calibration` draws `calibration`.
"""

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from microtome.command_line import run
from microtome.runs import labelled, last_checkpoints
from microtome.settings import FiguresSettings
from microtome.statistics import MONTE_CARLO, summary
from microtome.table_files import write_table

BINS = 10
THRESHOLD = (
    "A slide is called positive above the threshold with the largest sensitivity plus specificity on the training slides of its run "
    "(Youden 1950); of more than two classes the most probable one is called."
)
MEASURES = {"accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity", "brier": "Brier score"}


def youden_threshold(targets: ArrayLike, probabilities: ArrayLike) -> float:
    """The threshold with the largest sensitivity + specificity (Youden 1950), half way between two slides' probabilities of class 1.

    Of several the lowest; 0.5 where all probabilities are the same. A slide is called positive above it.
    """
    positive, p = np.asarray(targets) == 1, np.asarray(probabilities, dtype=np.float64)
    distinct = np.unique(p)
    if len(distinct) == 1:
        return 0.5
    cuts = (distinct[:-1] + distinct[1:]) / 2
    missed = np.searchsorted(np.sort(p[positive]), cuts, side="right") / positive.sum()
    spared = np.searchsorted(np.sort(p[~positive]), cuts, side="right") / (~positive).sum()
    return float(cuts[np.argmax(spared - missed)])


def probabilities(predictions: pd.DataFrame) -> NDArray[np.float64]:
    """The probabilities of a predictions.parquet of `gma`, [rows, classes]."""
    classes = sum(column.startswith("probability_") for column in predictions.columns)
    return predictions[[f"probability_{label}" for label in range(classes)]].to_numpy(np.float64)


def operating_points(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row a run: split, replica, accuracy, brier, and of two classes sensitivity and specificity, NaN of more.

    The Brier score (1950) is the mean square of probability minus target, of more than two classes summed over classes: 0 is perfect;
    the same probability for every class gives 0.25 of two classes and 1 - 1/k of k.

    Args:
        predictions: of validation slides, as `gma` writes them: split, replica, target, probability_0, …, threshold (NaN of k > 2).
    """
    p, target = probabilities(predictions), predictions["target"].to_numpy()
    if p.shape[1] == 2:
        right = pd.Series(((p[:, 1] > predictions["threshold"]) == (target == 1)).astype(float), predictions.index)
        sides = {"sensitivity": right.where(target == 1), "specificity": right.where(target == 0)}
        brier = (p[:, 1] - target) ** 2
    else:
        right = pd.Series((p.argmax(axis=1) == target).astype(float), predictions.index)
        unknown = pd.Series(np.nan, predictions.index)
        sides = {"sensitivity": unknown, "specificity": unknown}
        brier = ((p - np.eye(p.shape[1])[target]) ** 2).sum(axis=1)
    judged = predictions[["split", "replica"]].assign(accuracy=right, **sides, brier=brier)
    return judged.groupby(["split", "replica"]).mean().reset_index()


def calibration(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row for each tenth of the range that has slides: tenth (0 to 9), probability (mean), frequency, low, high, predictions, slides.

    Of two classes the probability is that of class 1 and the frequency its own; of more, that of the most probable class and how often it
    is right (Guo et al. 2017). They are the same where a classifier is calibrated. The runs' predictions are taken together, so a slide
    counts as often as it validates: `slides` is how many different ones there are, and the interval is as wide as for that many.
    """
    p, target = probabilities(predictions), predictions["target"].to_numpy()
    shown, happened = (p[:, 1], target == 1) if p.shape[1] == 2 else (p.max(axis=1), p.argmax(axis=1) == target)
    tenths = np.minimum((shown * BINS).astype(int), BINS - 1)
    rows = pd.DataFrame({"tenth": tenths, "probability": shown, "frequency": happened, "slide": predictions["slide"].to_numpy()})
    groups = rows.groupby("tenth")
    table = groups[["probability", "frequency"]].mean()
    slides = groups["slide"].nunique()
    low, high = wilson(table["frequency"].to_numpy(), slides.to_numpy())
    return table.assign(low=low, high=high, predictions=groups.size(), slides=slides).reset_index()


def wilson(frequency: NDArray[np.float64], n: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ends of the 95 % score interval (Wilson 1927) of a frequency among n: within 0 to 1, and not empty at 0 or 1."""
    z = NormalDist().inv_cdf(0.975)
    middle, half = frequency + z**2 / (2 * n), z * np.sqrt(frequency * (1 - frequency) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def decision_table(predictions: list[Path], settings: FiguresSettings) -> pd.DataFrame:
    """A row a task, encoder and measure: label, mean, sd, low, high (95 % bootstrap interval of the mean) over splits, and their number.

    Replicas of a split are averaged first. `predictions`: gma/{task}/{encoder}/predictions.parquet.
    """
    rows = []
    for path in predictions:
        task, encoder = path.parent.parent.name, path.parent.name
        splits = operating_points(pd.read_parquet(path)).groupby("split")[list(MEASURES)].mean()
        for measure in splits.dropna(axis="columns"):
            found = summary(splits[measure].to_numpy(), settings.figures.bootstrap, settings.seed)
            named = {"task": task, "encoder": encoder, "label": labelled(encoder, settings.labels), "measure": measure}
            rows.append({**named, "mean": found.mean, "sd": found.sd, "low": found.low, "high": found.high, "splits": len(splits)})
    return pd.DataFrame(rows)


def decision_overview(table: pd.DataFrame) -> pd.DataFrame:
    """A row a task and encoder, a run with its last checkpoint; measures across as "mean (sd) [interval]" in three decimals, of one split
    the mean alone.
    """
    last = table[table["encoder"].isin(last_checkpoints(table["encoder"].unique()))]
    numbers = zip(last["sd"], last["low"], last["high"], strict=True)
    spread = ["" if pd.isna(sd) else f" ({sd:.3f}) [{low:.3f}, {high:.3f}]" for sd, low, high in numbers]
    shown = last.assign(shown=[f"{mean:.3f}{rest}" for mean, rest in zip(last["mean"], spread, strict=True)])
    wide = shown.pivot(index=["task", "label"], columns="measure", values="shown")
    order = pd.MultiIndex.from_frame(last[["task", "label"]].drop_duplicates())
    measures = [measure for measure in MEASURES if measure in wide]
    return wide.loc[order, measures].rename(columns=MEASURES).reset_index().rename(columns={"label": "encoder"}).fillna("")


def decisions(predictions: list[Path], folder: Path, settings: FiguresSettings) -> None:
    """Write the table of every task and encoder as CSV, of last checkpoints as Markdown, LaTeX and HTML."""
    table = decision_table(predictions, settings)
    title = "Decisions: mean (sd) [95 % bootstrap interval] over splits"
    write_table(folder / "decisions", title, table, decision_overview(table), note=f"{title}. {THRESHOLD} {MONTE_CARLO}")


if __name__ == "__main__":
    run(decisions)
