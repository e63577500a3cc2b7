from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.config import Splits
from microtome.errors import UserError
from microtome.settings import SplitsSettings
from microtome.splits import monte_carlo, split_names, splits, strata


def make(folder: Path, slides: pd.DataFrame, seed: int = 0, group: str = "patient", repeats: int = 20) -> pd.DataFrame:
    """`slides`: slide, patient, target."""
    slides[["slide", "patient"]].to_parquet(folder / "cohort.parquet")
    slides[["slide", "target"]].to_csv(folder / "task.csv", index=False)
    settings = SplitsSettings(seed=seed, splits=Splits.model_validate({"repeats": repeats, "train_fraction": 0.8, "group": group}))
    splits(folder / "task.csv", folder / "cohort.parquet", folder / "splits.csv", settings)
    return pd.read_csv(folder / "splits.csv")


def table(patients: int, slides_each: int = 2, positive: float = 0.4) -> pd.DataFrame:
    of_patient = np.repeat(np.arange(patients), slides_each)
    slide = [f"s{n:03d}" for n in range(len(of_patient))]
    return pd.DataFrame(
        {"slide": slide, "patient": [f"p{n}" for n in of_patient], "target": (of_patient < positive * patients).astype(int)}
    )


def test_twenty_splits_of_80_20_by_patient(tmp_path: Path) -> None:
    made = make(tmp_path, table(50))
    assert list(made.columns) == ["slide", "patient", "target", *[f"mccv{n}" for n in range(1, 21)]]
    for name in split_names(20):
        assert set(made[name]) == {"train", "val"}
        assert made.groupby("patient")[name].nunique().max() == 1, "no patient on both sides"
        by_class = made.drop_duplicates("patient").groupby("target")[name].apply(lambda side: (side == "train").mean())
        assert by_class.tolist() == [0.8, 0.8], "each class is split 80/20"
    assert len({tuple(made[name]) for name in split_names(20)}) == 20, "splits differ"


def test_each_of_four_classes_is_split_80_20(tmp_path: Path) -> None:
    of_class = table(60, 1).assign(target=np.arange(60) % 4)
    made = make(tmp_path, of_class)
    for name in split_names(20):
        assert made.groupby("target")[name].apply(lambda side: (side == "train").sum()).tolist() == [12, 12, 12, 12]
    with pytest.raises(UserError, match=r"too few patients for a split: class 2 has 1\. Expected"):
        make(tmp_path, of_class.drop(of_class.index[(of_class["target"] == 2) & (of_class.index > 2)]))


def test_validation_is_spread_over_all_patients(tmp_path: Path) -> None:
    """Each patient validates a Binomial(20, 0.2) number of times: over 200 splits near 40, never 0."""
    made = make(tmp_path, table(50, 1), repeats=200)
    times = made[split_names(200)].eq("val").sum(axis=1)
    assert times.min() > 15
    assert times.max() < 70
    assert times.mean() == 40


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    first, shuffled = make(tmp_path, table(20)), make(tmp_path, table(20).sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(first, shuffled)
    assert not first.equals(make(tmp_path, table(20), seed=1))
    pd.testing.assert_frame_equal(first.iloc[:, :8], make(tmp_path, table(20), repeats=5))


def test_by_slide_is_the_published_way(tmp_path: Path) -> None:
    made = make(tmp_path, table(20, 5), group="slide")
    assert made.groupby("patient")["mccv1"].nunique().max() == 2


def test_a_patient_with_both_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slides = table(20)
    slides.loc[slides["patient"] == "p19", "target"] = [0, 1]
    made = make(tmp_path, slides)
    assert made[made["patient"] == "p19"][split_names(20)].nunique().max() == 1
    assert "patients with slides of several classes are stratified as their highest: p19" in capsys.readouterr().err
    make(tmp_path, slides, group="slide")
    assert "several classes" not in capsys.readouterr().err, "slides are stratified by their own class"


def test_few_patients_are_split_as_well_as_they_can_be_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, table(50))
    assert capsys.readouterr().err == ""
    slides = table(20, positive=0.15)
    positives = slides["patient"][slides["target"] == 1].nunique()
    made = make(tmp_path, slides)
    assert positives == 3
    assert made[made["target"] == 1].groupby("mccv1")["patient"].nunique().to_dict() == {"train": 2, "val": 1}
    said = capsys.readouterr().err
    assert "class 1 has 3 patients: 67% of them train, not the 80% of splits.train_fraction" in said
    assert "class 0" not in said


def test_too_few_patients(tmp_path: Path) -> None:
    slides = table(10, positive=0.1)
    with pytest.raises(UserError, match=r"too few patients for a split: class 1 has 1\. Expected at least 2 patients of each class"):
        make(tmp_path, slides)
    slides.loc[slides["patient"] != "p0", "target"] = [0, 1] * 9
    with pytest.raises(UserError, match=r"class 0 has 0 \(9 with slides of several classes count as their highest\)"):
        make(tmp_path, slides)


@given(st.integers(2, 30), st.integers(2, 30), st.floats(0.05, 0.95), st.integers(0, 10))
def test_both_classes_are_on_both_sides(negatives: int, positives: int, fraction: float, seed: int) -> None:
    task = pd.DataFrame({"patient": [f"p{n}" for n in range(negatives + positives)], "target": [0] * negatives + [1] * positives})
    groups = strata(task, "patient")
    train = monte_carlo(groups, fraction, np.random.default_rng(seed))
    for members in groups.values():
        inside = len(train & set(members))
        assert 0 < inside < len(members)
        assert abs(inside - fraction * len(members)) <= 1 or inside in (1, len(members) - 1)


def with_given(folder: Path, group: str = "patient", **columns: list[str]) -> pd.DataFrame:
    slides = table(4, 2, positive=0.5)
    slides[["slide", "patient"]].to_parquet(folder / "cohort.parquet")
    slides[["slide", "target"]].assign(**columns).sample(frac=1, random_state=0).to_csv(folder / "task.csv", index=False)
    settings = SplitsSettings(seed=0, splits=Splits.model_validate({"repeats": 20, "train_fraction": 0.8, "group": group}))
    splits(folder / "task.csv", folder / "cohort.parquet", folder / "splits.csv", settings)
    return pd.read_csv(folder / "splits.csv")


def test_splits_that_a_task_brings_along(tmp_path: Path) -> None:
    first, second = ["train", "train", "val", "val"] * 2, ["val", "val", "train", "train"] * 2
    made = with_given(tmp_path, mccv1=first, mccv2=second)
    assert list(made.columns) == ["slide", "patient", "target", "mccv1", "mccv2"]
    assert (made["mccv1"].tolist(), made["mccv2"].tolist()) == (first, second)
    by_slide = ["train", "val"] * 4
    assert with_given(tmp_path, group="slide", mccv1=by_slide)["mccv1"].tolist() == by_slide


def test_splits_of_a_task_go_by_their_numbers_whatever_their_order(tmp_path: Path) -> None:
    sides = ["train", "train", "val", "val"] * 2
    turned = ["val", "val", "train", "train"] * 2
    made = with_given(tmp_path, mccv2=sides, mccv10=turned, mccv1=turned)
    assert list(made.columns)[3:] == ["mccv1", "mccv2", "mccv10"]
    assert made["mccv2"].tolist() == sides
    with pytest.raises(UserError, match=r"found the splits mccv1, mccv01, two of one number"):
        with_given(tmp_path, mccv1=sides, mccv01=turned)


def test_blanks_around_the_cells_of_a_task_table(tmp_path: Path) -> None:
    with_given(tmp_path, mccv1=["train", "train", "val", "val"] * 2)
    clean = (tmp_path / "splits.csv").read_bytes()
    table = (tmp_path / "task.csv").read_text()
    (tmp_path / "task.csv").write_text(table.replace("mccv1", "mccv1 ").replace("s003,", "s003 ,").replace(",val", ", val "))
    settings = SplitsSettings(seed=0, splits=Splits(repeats=20, train_fraction=0.8, group="patient"))
    splits(tmp_path / "task.csv", tmp_path / "cohort.parquet", tmp_path / "splits.csv", settings)
    assert (tmp_path / "splits.csv").read_bytes() == clean


@pytest.mark.parametrize("name", ["MCCV1", "mccv_1", "Mccv 1", "mccv1.0"])
def test_a_column_that_is_nearly_a_split_is_not_passed_over(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"found the columns {name}\. Expected splits to be named mccv1, mccv2, …"):
        with_given(tmp_path, **{name: ["train", "train", "val", "val"] * 2})


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (["train", "train", "val", "test"] * 2, r"mccv1 of slide s003: found 'test', expected train or val"),
        (["train"] * 4 + ["val"] * 4, r"mccv1 has not slides of every class on both sides"),
        (["train"] * 8, r"mccv1 has not slides of every class on both sides"),
        (["train", "val"] * 4, r"mccv1 has patient p0 on both sides\. .* set splits\.group: slide, the published way"),
    ],
)
def test_bad_splits_of_a_task(tmp_path: Path, sides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_given(tmp_path, mccv1=sides)
