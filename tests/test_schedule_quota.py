"""The table of quotas and the balance of organs: who takes part, what is reused; and every input that must be refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microtome.errors import UserError
from microtome.schedule_quota import schedule_quota
from tests.stage_settings import schedule_settings
from tests.tile_folder import slide_table, write_catalog

Tables = tuple[pd.DataFrame, pd.DataFrame]


def run_quota(folder: Path, slides: pd.DataFrame, task: str = "", seed: int = 0, **changes: object) -> Tables:
    catalog = write_catalog(folder / "catalog.parquet", slides)
    (folder / "task.csv").write_text(task)
    quota, balance = folder / "quota" / "slides.parquet", folder / "quota" / "balance.csv"
    schedule_quota(catalog, quota, balance, schedule_settings(seed, **changes), [folder / "task.csv"] if task else [])
    return pd.read_parquet(quota), pd.read_csv(balance)


COHORT = {"breast": [40, 30, 20, 50, 60], "colon": [25, 35, 15], "eye": [12]}


def test_quota_table(tmp_path: Path) -> None:
    quota, _ = run_quota(tmp_path, slide_table(COHORT))
    expected = ["slide", "shard", "organ", "pseudo_epoch", "tiles", "before", "slide_tiles", "tile_px"]
    assert list(quota.columns) == expected
    assert (quota.groupby("pseudo_epoch")["tiles"].sum() == 60).all()
    assert (quota["tiles"] > 0).all()
    in_order = quota.sort_values("pseudo_epoch", kind="stable")
    assert (in_order["before"] == in_order.groupby("slide")["tiles"].cumsum() - in_order["tiles"]).all()
    for _, part in quota.groupby("pseudo_epoch"):
        assert part[["shard", "slide"]].apply(tuple, axis=1).is_monotonic_increasing  # as the indexes are, so that they are read once


def test_same_bytes_twice_and_others_with_another_seed(tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_quota(tmp_path / name, slide_table(COHORT), seed=seed)
        texts.append((tmp_path / name / "quota" / "slides.parquet").read_bytes())
    assert texts[0] == texts[1] != texts[2]


def test_balance(tmp_path: Path) -> None:
    quota, balance = run_quota(tmp_path, slide_table(COHORT), tiles=100)
    each = balance[balance["pseudo_epoch"] != "all"]
    assert (each.groupby("pseudo_epoch")["tiles"].sum() == 100).all()
    for share in ("natural_share", "target_share", "reached_share"):
        assert np.allclose(balance.groupby("pseudo_epoch")[share].sum(), 1)
    drawn = quota.groupby(["pseudo_epoch", "organ"])["tiles"].sum()
    for row in each.itertuples():
        assert row.tiles == drawn.get((int(row.pseudo_epoch), row.organ), 0)
    for kind, counted in reuse_by_simulation(quota).items():
        assert each.groupby(each["pseudo_epoch"].astype(int))[kind].sum().to_dict() == counted
    everything = balance[balance["pseudo_epoch"] == "all"].set_index("organ")
    assert everything["tiles"].to_dict() == quota.groupby("organ")["tiles"].sum().to_dict()


def reuse_by_simulation(quota: pd.DataFrame) -> dict[str, dict[int, int]]:
    """Count tile by tile: a slide's visits go round and round over its tiles."""
    seen: set[tuple[str, int]] = set()
    repeated, seen_before = {}, {}
    for pseudo_epoch, rows in quota.groupby("pseudo_epoch"):
        drawn = [(row.slide, (row.before + visit) % row.slide_tiles) for row in rows.itertuples() for visit in range(row.tiles)]
        repeated[pseudo_epoch] = len(drawn) - len(set(drawn))
        seen_before[pseudo_epoch] = len(set(drawn) & seen)
        seen |= set(drawn)
    return {"repeated": repeated, "seen_before": seen_before}  # type: ignore[dict-item]


def test_who_takes_part(tmp_path: Path) -> None:
    slides = slide_table({"breast": [40] * 8})
    slides["status"] = ["ok", "failed", "empty", "excluded", *["ok"] * 4]
    slides["pretrain"] = [True] * 4 + [False] + [True] * 3
    slides["patient"] = ["p0", "p1", "p2", "p3", "p4", "shared", "shared", "p7"]
    slides["case"] = [None, None, None, None, None, "c1", "c2", "c1"]
    quota, _ = run_quota(tmp_path / "all", slides, slide_parts=1)
    assert set(quota["slide"]) == {"slide000", "slide005", "slide006", "slide007"}
    # slide005 is evaluated: slide006 is of its patient, slide007 of its case
    quota, _ = run_quota(tmp_path / "guarded", slides, "slide,target\nslide005,1\nslide004,0\n", slide_parts=1)
    assert set(quota["slide"]) == {"slide000"}


def test_refused(tmp_path: Path) -> None:
    nobody = slide_table(COHORT, pretrain=False)
    with pytest.raises(UserError, match=r"no slide can be scheduled\. Of 9 slides 9 have tiles, of these 0 may be pretrained on"):
        run_quota(tmp_path / "a", nobody)
    with pytest.raises(UserError, match=r"slide_parts: 2 slides cannot be split into 3 parts"):
        run_quota(tmp_path / "b", slide_table({"eye": [3, 4]}))
    with pytest.raises(UserError, match="60 tiles are wanted, but with max_tiles_per_slide 9 the 3 slides of pseudo-epoch 1 give 27"):
        run_quota(tmp_path / "c", slide_table(COHORT), max_tiles_per_slide=9)
    with pytest.raises(UserError, match="slides that are not in the cohort: nowhere"):
        run_quota(tmp_path / "d", slide_table(COHORT), "slide,target\nslide001,1\nnowhere,0\n")
