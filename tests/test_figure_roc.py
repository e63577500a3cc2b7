"""ROC curves: the mean of what scikit-learn draws for each run, with the area that the AUC has."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from microtome.figure_roc import RATES, draw, drawn, figure_roc, mean_curve
from tests.benchmark_runs import figures_settings
from tests.figure_checks import assert_readable, assert_saved, texts
from tests.test_figure_convergence import ELEVEN


def predictions(seed: int = 0, splits: int = 4, replicas: int = 2, slides: int = 40, decimals: int = 6) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = []
    for split, replica in ((s + 1, r + 1) for s in range(splits) for r in range(replicas)):
        target = (np.arange(slides) % 3 == 0).astype(int)
        probability = np.round(1 / (1 + np.exp(-random.normal(1.5 * target - 0.5))), decimals)
        names = [f"s{n}" for n in range(slides)]
        rows.append(pd.DataFrame({"split": split, "replica": replica, "slide": names, "target": target, "probability_0": 1 - probability}))
        rows[-1]["probability_1"] = probability
    return pd.concat(rows, ignore_index=True)


def height(fpr: np.ndarray, tpr: np.ndarray, rate: float) -> float:
    """The highest true positive rate at a false positive rate, on the straight lines between thresholds."""
    below = np.flatnonzero(fpr <= rate)[-1]
    if fpr[below] == rate:
        return float(tpr[below])
    share = (rate - fpr[below]) / (fpr[below + 1] - fpr[below])
    return float(tpr[below] + share * (tpr[below + 1] - tpr[below]))


@pytest.mark.parametrize("decimals", [6, 1])  # 1: ties, where the curve climbs aslant
def test_the_mean_curve_is_that_of_the_runs(decimals: int) -> None:
    table = predictions(decimals=decimals)
    curve = mean_curve(table, 100, 0)
    runs = [run for _, run in table.groupby(["split", "replica"])]
    curves = [roc_curve(run["target"], run["probability_1"], drop_intermediate=False)[:2] for run in runs]
    expected = [np.mean([height(fpr, tpr, rate) for fpr, tpr in curves]) for rate in RATES]
    assert curve["tpr"][1:].to_numpy() == pytest.approx(expected)
    assert curve.iloc[0].tolist() == [0, 0, 0, 0]
    assert ((curve["low"] <= curve["tpr"]) & (curve["tpr"] <= curve["high"])).all()
    area = np.trapezoid(curve["tpr"], curve["fpr"])
    assert area == pytest.approx(np.mean([roc_auc_score(run["target"], run["probability_1"]) for run in runs]), abs=0.01)


def test_a_perfect_encoder_reaches_the_corner() -> None:
    table = predictions().assign(probability_1=lambda rows: rows["target"] * 0.9)
    assert mean_curve(table, 10, 0)["tpr"].tolist() == [0] + [1] * len(RATES)


def test_of_three_classes_the_curve_is_the_macro_average() -> None:
    random = np.random.default_rng(0)
    target = np.repeat([0, 1, 2], 40)
    scores = random.random((120, 3)) + 0.5 * np.eye(3)[target]
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    table = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in range(3)]).assign(target=target, split=1, replica=1)
    curve = mean_curve(table, 10, 0)
    each = [roc_curve(target == label, probabilities[:, label], drop_intermediate=False)[:2] for label in range(3)]
    assert curve["tpr"][1:].to_numpy() == pytest.approx([np.mean([height(*one, rate) for one in each]) for rate in RATES])
    area = np.trapezoid(curve["tpr"], curve["fpr"])
    assert area == pytest.approx(roc_auc_score(target, probabilities, multi_class="ovr"), abs=0.01)


def write(folder: Path, tasks: list[str], encoders: list[str]) -> list[Path]:
    paths = [folder / "gma" / task / encoder / "predictions.parquet" for task in tasks for encoder in encoders]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        predictions(seed, splits=2, slides=12).to_parquet(path)
    return paths


def test_files_hold_what_is_drawn(tmp_path: Path) -> None:
    files = [tmp_path / f"roc.{kind}" for kind in ("pdf", "png", "csv")]
    figure_roc(write(tmp_path, ["texture"], ["dino@1", "dino@3", "res50"]), *files, figures_settings({}))
    assert_saved(files[0], files[1])
    table = pd.read_csv(files[2])
    assert table["encoder"].unique().tolist() == ["dino@3", "res50"]
    assert len(table) == 2 * (len(RATES) + 1)


@pytest.mark.parametrize(("tasks", "encoders"), [(1, 1), (1, 2), (1, 11), (4, 5)])
def test_nothing_overlaps(tmp_path: Path, tasks: int, encoders: int) -> None:
    paths = write(tmp_path, [f"a_task_of_number_{n}" for n in range(tasks)], ELEVEN[:encoders])
    settings = figures_settings({name: f"{name} (random weights)" for name in ELEVEN[2:4]})
    figure = draw(drawn(paths, settings), settings)
    assert_readable(figure)
    assert sum("(random weights)" in text for text, _ in texts(figure)) == len(ELEVEN[2:4]) * (encoders > 2)


@pytest.mark.parametrize(("encoders", "bands"), [(5, 5), (6, 0)])
def test_bands_are_drawn_of_few_encoders(encoders: int, bands: int) -> None:
    curve = pd.DataFrame({"task": "t", "fpr": [0.0, 1.0], "tpr": [0.0, 1.0], "low": [0.0, 0.9], "high": [0.1, 1.0]})
    figure = draw(pd.concat([curve.assign(encoder=name) for name in ELEVEN[:encoders]]), figures_settings({}))
    assert len(figure.axes[0].collections) == bands


def test_one_split_has_a_curve_and_no_band() -> None:
    table = predictions()
    curve = mean_curve(table[table["split"] == 1], 100, 0)
    assert curve["tpr"].notna().all()
    assert curve.loc[1:, ["low", "high"]].isna().all(axis=None)
    assert_readable(draw(curve.assign(task="t", encoder="e"), figures_settings({})))
