"""The figure of the label-free measures: nulls at pseudo-epoch 0 and hollow, readable with one and with eleven encoders."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.figure_quality import draw, figure_quality
from microtome.quality_table import read_measures
from tests.benchmark_runs import figures_settings
from tests.figure_checks import assert_readable, assert_saved, texts
from tests.quality_runs import LABELS, NULLS, write_measures
from tests.test_figure_checkpoints import BASELINES, DINO, MAE


def test_checkpoints_stand_at_their_pseudo_epochs_and_nulls_are_hollow(tmp_path: Path) -> None:
    paths = write_measures(tmp_path, [NULLS[0], *DINO[:2], "tres50", "res50"], NULLS)
    files = [tmp_path / f"quality.{kind}" for kind in ("pdf", "png", "csv")]
    figure_quality(paths, *files, figures_settings(LABELS))
    assert_saved(files[0], files[1])
    table = pd.read_csv(files[2])
    assert table["pseudo_epoch"].tolist()[:3] == [0, 1, 3]
    figure = draw(read_measures(paths, LABELS), figures_settings(LABELS))
    for panel, measure in zip(figure.axes, ["rankme", "odcorr", "knn_accuracy"], strict=True):
        marks = [line for line in panel.lines if line.get_marker() not in ("None", "none", "")]
        hollow = {float(line.get_ydata()[0]): line.get_markerfacecolor() == "white" for line in marks}
        assert hollow == dict(zip(table[measure], table["null"], strict=True))
        joined = panel.lines[0]
        assert joined.get_xdata().tolist() == [0, 1, 3]
        assert joined.get_ydata().tolist() == table[measure].tolist()[:3]
        assert max(panel.get_xticks()) <= 3
    shown = [text for text, _ in texts(figure)]
    assert {"dino_vits16", "tres50 (random weights)", "res50", "hollow: random weights (null)", "chance (1 of 4 organs)"} <= set(shown)


@pytest.mark.parametrize("encoders", [["res50"], [NULLS[0], *DINO, NULLS[1], *MAE, *BASELINES]])
def test_nothing_overlaps(tmp_path: Path, encoders: list[str]) -> None:
    table = read_measures(write_measures(tmp_path, encoders, NULLS), LABELS)
    assert_readable(draw(table, figures_settings(LABELS)))


def test_no_chance_level_where_no_organ_is_judged(tmp_path: Path) -> None:
    table = read_measures(write_measures(tmp_path, ["res50"], []), {}).assign(chance=float("nan"), knn_accuracy=float("nan"), organs=0)
    assert not any("chance" in text for text, _ in texts(draw(table, figures_settings({}))))
