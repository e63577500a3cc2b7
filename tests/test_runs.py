"""The benchmark's results as one table."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.errors import UserError
from microtome.runs import base_name, final_auc, last_checkpoints, pseudo_epoch_of, read_runs
from tests.benchmark_runs import write_runs


def test_task_and_encoder_stand_in_the_path(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, ["one", "two"], ["dino@5", "res50"])
    runs = read_runs(paths)
    assert set(zip(runs["task"], runs["encoder"], strict=True)) == {(t, e) for t in ("one", "two") for e in ("dino@5", "res50")}
    assert len(runs) == 4 * 5 * 2 * 5
    first = pd.read_csv(paths[0])
    pd.testing.assert_frame_equal(runs[:50][first.columns.drop("val_loss")], first.drop(columns="val_loss"))


def test_checkpoints_are_told_from_other_encoders() -> None:
    assert [base_name(name) for name in ("dino@5", "res50", "a@b", "x@1@12")] == ["dino", "res50", "a@b", "x@1"]
    assert [pseudo_epoch_of(name) for name in ("dino@5", "res50", "a@b", "x@1@12")] == [5, None, None, 12]
    assert last_checkpoints(["dino@5", "res50", "dino@25", "dino@7", "mae@1"]) == ["dino@25", "res50", "mae@1"]


def test_the_final_auc_is_the_last_epochs_with_replicas_averaged() -> None:
    rows = [
        ("t", "e", 1, 1, 0, 0.0),
        ("t", "e", 1, 1, 1, 0.9),
        ("t", "e", 1, 1, 2, 0.5),
        ("t", "e", 1, 2, 2, 0.7),
        ("t", "e", 2, 1, 2, 0.8),
    ]
    runs = pd.DataFrame(rows, columns=["task", "encoder", "split", "replica", "epoch", "auc"])
    assert final_auc(runs)[["split", "auc"]].to_numpy().tolist() == [[1, pytest.approx(0.6)], [2, 0.8]]


def test_a_file_without_a_column_or_rows(tmp_path: Path) -> None:
    path = tmp_path / "gma" / "task" / "encoder" / "runs.csv"
    path.parent.mkdir(parents=True)
    path.write_text("split,replica,epoch,loss\n1,1,0,\n")
    with pytest.raises(UserError, match="columns split, replica, epoch, loss, auc; found split, replica, epoch, loss"):
        read_runs([path])
    path.write_text("split,replica,epoch,loss,auc\n")
    with pytest.raises(UserError, match="found no row"):
        read_runs([path])
