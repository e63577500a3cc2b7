"""Paired comparisons against hand-worked cases and SciPy."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t, ttest_rel
from sklearn.metrics import roc_auc_score

from microtome.comparisons import aucs_on_the_same_slides, corrected_difference, holm, pairwise, ranking, val_over_train
from microtome.errors import UserError
from tests.benchmark_runs import write_predictions


def aucs(values: dict[str, list[float]], task: str = "texture") -> pd.DataFrame:
    rows = [(task, encoder, split + 1, auc) for encoder, of_one in values.items() for split, auc in enumerate(of_one)]
    return pd.DataFrame(rows, columns=["task", "encoder", "split", "auc"])


def test_without_the_correction_it_is_the_paired_t_test() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(20), random.random(20)
    found, reference = corrected_difference(first - second, 0.0), ttest_rel(first, second)
    assert found.p == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_a_hand_worked_corrected_test() -> None:
    # m = 0.02, s² = 0.0001 (three values 0.01 apart), 80/20: error = sqrt((1/3 + 1/4) 0.0001) = 0.0076376
    found = corrected_difference([0.01, 0.02, 0.03], 0.25)
    assert found.mean == pytest.approx(0.02)
    assert found.p == pytest.approx(2 * t.sf(0.02 / 0.00763763, 2), rel=1e-5)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.00763763, rel=1e-5)
    assert found.p > ttest_rel([0.01, 0.02, 0.03], [0, 0, 0]).pvalue


def test_splits_that_agree_exactly() -> None:
    assert vars(corrected_difference([0.0, 0.0, 0.0], 0.25)) == {"mean": 0, "low": 0, "high": 0, "p": 1}
    for values in ([0.25, 0.25, 0.25], [0.25], [0.0]):  # nothing to estimate an error from
        found = corrected_difference(values, 0.25)
        assert found.mean == values[0]
        assert np.isnan([found.low, found.high, found.p]).all()
    for values in (np.array([0.9, 0.8, 0.7]) - [0.8, 0.7, 0.6], np.array([0.3, 0.6]) - [0.1 + 0.2, 0.6]):  # the same within rounding
        assert np.ptp(values) > 0
        found = corrected_difference(values, 0.25)
        assert found.p == 1 if abs(found.mean) < 0.05 else np.isnan([found.p, found.low]).all()
    assert holm([0.01, np.nan, 0.02])[:3:2] == pytest.approx([0.03, 0.04])  # counted among the tests all the same


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # the example of Wikipedia's "Holm-Bonferroni method"
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([0.2]) == pytest.approx([0.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_adjustment_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted, raw = holm(p), np.array(p)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(raw * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()


def test_the_ratio_is_counted_in_the_splits() -> None:
    splits = pd.DataFrame({"slide": list("abcde"), "target": [0, 1, 0, 1, 0]})
    splits["mccv1"] = ["train", "train", "train", "train", "val"]
    splits["mccv2"] = ["train", "train", "train", "val", "val"]
    assert val_over_train(splits) == pytest.approx((1 / 4 + 2 / 3) / 2)


def test_every_pair_of_a_task_is_compared_on_its_own_splits() -> None:
    random = np.random.default_rng(1)
    values = {name: random.random(20).tolist() for name in ("a", "b", "c")}
    table = pairwise(pd.concat([aucs(values, "one"), aucs({"a": values["b"], "b": values["a"]}, "two")]), {"one": 0.25, "two": 0.25})
    assert table[["task", "first", "second"]].to_numpy().tolist() == [
        ["one", "a", "b"],
        ["one", "a", "c"],
        ["one", "b", "c"],
        ["two", "a", "b"],
    ]
    assert table["difference"][0] == pytest.approx(np.mean(values["a"]) - np.mean(values["b"]))
    assert table["difference"][3] == pytest.approx(-table["difference"][0])
    assert table["p_holm"][:3].to_numpy() == pytest.approx(holm(table["p"][:3]))
    assert table["p_holm"][3] == table["p"][3]  # one pair: nothing to adjust
    assert pairwise(aucs({"a": [0.5, 0.6]}), {"texture": 0.25}).empty


def test_a_ranking_has_the_ranks_that_resamples_give() -> None:
    table = ranking(aucs({"low": [0.5, 0.6, 0.55, 0.5], "high": [0.9, 0.8, 0.95, 0.9], "middle": [0.7, 0.72, 0.7, 0.71]}), 500, 0)
    assert table["encoder"].tolist() == ["high", "middle", "low"]
    assert table[["rank", "rank_low", "rank_high"]].to_numpy().tolist() == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    assert table["mean"].tolist() == pytest.approx([0.8875, 0.7075, 0.5375])
    assert ((table["low"] < table["mean"]) & (table["mean"] < table["high"])).all()
    close = ranking(aucs({"a": [0.4, 0.6, 0.5, 0.7], "b": [0.6, 0.4, 0.7, 0.52]}), 500, 0)
    assert close[["rank_low", "rank_high"]].to_numpy().tolist() == [[1, 2], [1, 2]]
    same = ranking(aucs({"a": [0.4, 0.6], "b": [0.4, 0.6]}), 100, 0)
    assert same["rank"].tolist() == [1, 1]
    rounded = ranking(aucs({"a": [0.1, 0.2, 0.3], "b": [0.3, 0.2, 0.1]}), 100, 0)
    assert rounded["mean"].nunique() == 2, "by rounding alone"
    assert rounded["rank"].tolist() == [1, 1]


def test_a_ranking_of_one_split_has_no_ends() -> None:
    table = ranking(aucs({"a": [0.7], "b": [0.8]}), 100, 0)
    assert table["encoder"].tolist() == ["b", "a"]
    assert table[["rank_low", "rank_high", "low", "high"]].isna().all(axis=None)


def test_encoders_are_compared_on_the_validation_slides_that_all_of_them_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_predictions(tmp_path, ["one", "two"], ["dino@1", "dino@2", "res50"], splits=3)
    whole = aucs_on_the_same_slides(paths)
    assert capsys.readouterr().err == ""
    assert whole[["task", "encoder"]].drop_duplicates().to_numpy().tolist() == [[t, e] for t in ("one", "two") for e in ("dino@2", "res50")]
    lacking = pd.read_parquet(paths[2])
    lacking = lacking[(lacking["slide"] != "s3") & (lacking["split"] != 2)]
    lacking.to_parquet(paths[2])
    found = aucs_on_the_same_slides(paths)
    said = "one, dino@2: 10 of its 24 validations are of slides or splits that another encoder does not have; encoders are compared without"
    assert said in capsys.readouterr().err
    other = pd.read_parquet(paths[1])
    other = other[other["slide"] != "s3"]
    for encoder, table in (("dino@2", other), ("res50", lacking)):
        for split in (1, 3):
            runs = [run for _, run in table[table["split"] == split].groupby("replica")]
            expected = np.mean([roc_auc_score(run["target"], run["probability_1"]) for run in runs])
            row = found[(found["task"] == "one") & (found["encoder"] == encoder) & (found["split"] == split)]
            assert row["auc"].tolist() == pytest.approx([expected])
    pairs = pairwise(found, {"one": 0.25, "two": 0.25})
    assert pairs["splits"].tolist() == [2, 3]
    assert pairs["p"].notna().all()
    pd.testing.assert_frame_equal(
        found[found["task"] == "two"].reset_index(drop=True), whole[whole["task"] == "two"].reset_index(drop=True)
    )


def test_encoders_without_common_slides_of_each_class_cannot_be_compared(tmp_path: Path) -> None:
    paths = write_predictions(tmp_path, ["one"], ["dino@1", "res50"], splits=2)
    table = pd.read_parquet(paths[0])
    table[table["slide"] != "s1"].to_parquet(paths[0])
    other = pd.read_parquet(paths[1])
    other[~other["slide"].isin(["s3", "s5", "s7"])].to_parquet(paths[1])
    with pytest.raises(UserError, match=r"one: split 1 has no validation slide of class 1 that all encoders have features of"):
        aucs_on_the_same_slides(paths)
    other.assign(split=9).to_parquet(paths[1])
    with pytest.raises(UserError, match=r"one: no split and slide was predicted by all encoders\. Run `gma` of the task again"):
        aucs_on_the_same_slides(paths)
