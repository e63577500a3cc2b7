"""The table of the label-free measures: a row an encoder, rounded for the reader alone."""

from pathlib import Path

import pandas as pd

from microtome.quality_table import overview, quality_table, read_measures
from microtome.settings import TablesSettings
from tests.quality_runs import LABELS, NULLS, write_measures
from tests.test_figure_checkpoints import DINO


def test_the_table_has_a_row_an_encoder(tmp_path: Path) -> None:
    paths = write_measures(tmp_path, [NULLS[0], DINO[0]], NULLS)
    quality_table(paths, tmp_path / "tables" / "quality", TablesSettings(seed=0, bootstrap=10, tasks={}, labels=LABELS))
    table = pd.read_csv(tmp_path / "tables" / "quality.csv")
    assert table["encoder"].tolist() == ["dino_vits16@0", "dino_vits16@1"]
    assert table["label"].tolist() == ["dino_vits16@0 (random weights)", "dino_vits16@1"]
    assert table.equals(read_measures(paths, LABELS).astype({"pseudo_epoch": "int64"}))
    row = (tmp_path / "tables" / "quality.md").read_text().splitlines()[3]
    expected = [
        "dino_vits16@1",
        "192",
        f"{table['rankme'][1]:.1f}",
        f"{table['odcorr'][1]:.3f}",
        f"{table['knn_accuracy'][1]:.3f}",
        "0.250",
    ]
    assert [cell.strip() for cell in row.strip("|").split("|")] == expected


def test_what_is_shown_is_rounded_and_what_is_stored_is_not(tmp_path: Path) -> None:
    table = read_measures(write_measures(tmp_path, ["res50"], []), {})
    assert table["pseudo_epoch"].isna().tolist() == [True], "a baseline has no pseudo-epoch, not number 0"
    shown = overview(table.assign(rankme=1.25, odcorr=0.0004, knn_accuracy=float("nan"), chance=1.0))
    assert shown.iloc[0].tolist() == ["res50", 192, "1.2", "0.000", "", "1.000"], "nothing for what could not be measured"
    assert table["rankme"][0] not in (round(table["rankme"][0], digits) for digits in range(6))
