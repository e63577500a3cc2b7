"""Figure 1: what is drawn are means of what was logged, on axes that agree."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microtome.errors import UserError
from microtome.figure_pretraining import MAX_BINS, draw, drawn, figure_pretraining, read_curves
from tests.benchmark_runs import figures_settings
from tests.figure_checks import assert_readable, assert_saved

TILES = 65_000_000


def write_curves(folder: Path, run: str, pseudo_epochs: int, steps: int, scale: float = 3.0) -> list[Path]:
    paths = []
    for number in range(1, pseudo_epochs + 1):
        step = np.arange((number - 1) * steps + 1, number * steps + 1)
        pseudo_epoch = step / steps
        loss = scale * (1 + np.exp(-pseudo_epoch)) + np.random.default_rng(number).normal(0, 0.02 * scale, steps)
        curve = {"step": step, "pseudo_epoch": pseudo_epoch, "imagenet_epochs": pseudo_epoch * TILES / 1_281_167, "loss": loss, "lr": 0.1}
        paths.append(folder / "pretrain" / run / str(number) / "curve.csv")
        paths[-1].parent.mkdir(parents=True)
        pd.DataFrame(curve).to_csv(paths[-1], index=False)
    return paths


def test_points_are_means_of_pseudo_epochs_and_the_line_keeps_the_mean(tmp_path: Path) -> None:
    paths = write_curves(tmp_path, "dino", 3, 1000)
    table = drawn(read_curves(paths[::-1]))  # in whatever order the files come
    points = table[table["series"] == "pseudo-epoch"]
    assert points["loss"].to_numpy() == pytest.approx([pd.read_csv(path)["loss"].mean() for path in paths])
    assert points["pseudo_epoch"].to_numpy() == pytest.approx([0.5005, 1.5005, 2.5005])  # at the middle of the steps they stand for
    line = table[table["series"] == "share of steps"]
    assert len(line) == MAX_BINS
    everything = pd.concat([pd.read_csv(path) for path in paths])
    assert np.average(line["loss"], weights=np.bincount(np.arange(3000) * MAX_BINS // 3000)) == pytest.approx(everything["loss"].mean())
    assert line["step"].is_monotonic_increasing


def test_few_steps_are_drawn_one_by_one(tmp_path: Path) -> None:
    paths = write_curves(tmp_path, "dino", 2, 7)
    line = drawn(read_curves(paths)).query("series == 'share of steps'")
    assert line["loss"].to_numpy() == pytest.approx(pd.concat([pd.read_csv(path) for path in paths])["loss"].to_numpy())


def test_the_axes_agree(tmp_path: Path) -> None:
    figure = draw(drawn(read_curves(write_curves(tmp_path, "dino", 4, 50))))
    figure.draw_without_rendering()
    panel = figure.axes[0]
    above, below = panel.child_axes
    assert above.get_xlim()[1] == pytest.approx(panel.get_xlim()[1] * TILES / 1_281_167)
    assert below.get_xlim()[1] == pytest.approx(panel.get_xlim()[1] * 50)
    assert (above.get_xlabel(), panel.get_xlabel(), below.get_xlabel()) == ("ImageNet epochs", "pseudo-epochs", "steps")


@pytest.mark.parametrize(
    ("shrunk", "unit"), [(1, "ImageNet epochs"), (1e5, "thousandths of an ImageNet epoch"), (1e9, "millionths of an ImageNet epoch")]
)
def test_a_small_scale_has_ticks_that_can_be_read(tmp_path: Path, shrunk: float, unit: str) -> None:
    table = drawn(read_curves(write_curves(tmp_path, "dino", 4, 50)))
    figure = draw(table.assign(imagenet_epochs=table["imagenet_epochs"] / shrunk))
    above = figure.axes[0].child_axes[0]
    assert_readable(figure)
    assert above.get_xlabel() == unit
    assert max(len(label.get_text()) for label in above.get_xticklabels()) <= 5


@pytest.mark.parametrize("runs", [1, 2, 3, 4])
def test_nothing_overlaps(tmp_path: Path, runs: int) -> None:
    paths = [path for n in range(runs) for path in write_curves(tmp_path, f"a_run_of_number_{n}", 2, 30, 10.0 ** (n - 2))]
    assert_readable(draw(drawn(read_curves(paths))))


def test_files_are_the_same_bytes_for_the_same_numbers(tmp_path: Path) -> None:
    curves = write_curves(tmp_path, "dino", 2, 20) + write_curves(tmp_path, "mae", 1, 20, 0.2)
    for name in ("a", "b"):
        files = [tmp_path / name / f"pretraining.{kind}" for kind in ("pdf", "png", "csv")]
        figure_pretraining(curves, *files, figures_settings({}))
        assert_saved(files[0], files[1])
    assert all((tmp_path / "b" / path.name).read_bytes() == path.read_bytes() for path in (tmp_path / "a").iterdir())
    assert pd.read_csv(tmp_path / "a" / "pretraining.csv")["run"].unique().tolist() == ["dino", "mae"]


def test_no_curve_at_all() -> None:
    with pytest.raises(UserError, match=r"expected the curve\.csv of at least one pseudo-epoch"):
        read_curves([])
