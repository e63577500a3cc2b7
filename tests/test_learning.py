"""Pretraining learns, in short; `python -m tests.benchmarks.learning` shows it in full."""

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.learning import accuracies, learn, read_tiles, settings_of


def test_maes_loss_falls_on_real_tiles_and_nulls_stand_beside_it(shared_data: Path, tmp_path: Path) -> None:
    images, classes, held_out = (part[::6] for part in read_tiles(shared_data / "tiles" / "lc25000_lung", 48))
    settings = settings_of("mae", 4, 16, "test_vit", crop_px=32, lr_per_256=0.03, warmup_epochs=0.5)
    rows = learn(images, classes, held_out, settings, tmp_path, every=2)
    assert [row["epoch"] for row in rows] == ["colour", 0, 2, 4]
    assert rows[-1]["loss"] < 0.75 * 1.0  # of patches with mean 0 and variance 1: what predicting 0 would have
    assert rows[-1]["loss"] < rows[-2]["loss"]
    assert all(1 / 3 < row["knn"] <= 1 and 1 / 3 < row["linear"] <= 1 for row in rows)


def test_no_group_is_on_both_sides(shared_data: Path) -> None:
    images, classes, held_out = read_tiles(shared_data / "tiles" / "lc25000_lung", 8)
    lines = (shared_data / "tiles" / "lc25000_lung" / "tiles.csv").read_text().splitlines()[1:]
    groups = np.array([line.split(",")[2] for line in lines])
    assert len(images) == len(classes) == len(groups)
    assert not set(groups[held_out]) & set(groups[~held_out])
    assert held_out.mean() == pytest.approx(1 / 3, abs=0.05)


def test_accuracies_are_those_of_separable_and_of_random_classes() -> None:
    rng = np.random.default_rng(0)
    features, held_out = rng.normal(size=(400, 8)), np.arange(400) % 2 == 0
    classes = np.where(features[:, 0] > 0, "a", "b")
    shifted = features + 6 * (classes == "a")[:, None]
    assert accuracies(shifted, classes, held_out) == {"knn": 1.0, "linear": 1.0}
    assert accuracies(features, rng.permutation(classes), held_out)["knn"] == pytest.approx(0.5, abs=0.15)
