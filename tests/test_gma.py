import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from microtome.errors import UserError
from microtome.feature_store import write_features
from microtome.gma import gma, read_splits
from microtome.gma_training import Run, train
from tests.test_gma_training import drawn_bags, settings


def places(tiles: int) -> np.ndarray:
    """Where the tiles of `write_inputs` are: each x is another than each y."""
    return np.stack([512 * np.arange(tiles), 7 + 256 * np.arange(tiles)[::-1]], axis=1)


def write_inputs(folder: Path, slides: int = 12, without: tuple[int, ...] = ()) -> tuple[Path, list[Path]]:
    """A split table of two splits, and feature tables in two shards; slides `without` features have failed."""
    bags, rows = drawn_bags(slides), []
    for slide, name in enumerate(bags.slides):
        tiles = bags.tiles(slide).numpy()
        write_features(folder / f"{name}.h5", tiles, places(len(tiles)), {}, "")
        bad = slide in without
        rows.append((name, "failed" if bad else "ok", "torn" if bad else "", 0 if bad else len(tiles), 12, str(folder / f"{name}.h5")))
    made = pd.DataFrame(rows, columns=["slide", "status", "reason", "tiles", "dim", "path"]).assign(rows_digest=bags.slides)
    made.loc[list(without), "rows_digest"] = None
    made[["slide", "rows_digest"]].to_parquet(folder / "catalog.parquet")
    made.iloc[:5].to_parquet(folder / "0.parquet")
    made.iloc[5:].to_parquet(folder / "1.parquet")
    number = np.arange(slides)
    splits = pd.DataFrame({"slide": bags.slides, "patient": bags.slides, "target": number % 2})
    splits["mccv1"], splits["mccv2"] = np.where(number < 4, "val", "train"), np.where(number >= slides - 4, "val", "train")
    splits.to_csv(folder / "splits.csv", index=False)
    return folder / "splits.csv", [folder / "0.parquet", folder / "1.parquet"]


def outputs(folder: Path) -> dict[str, Path]:
    """And the catalog."""
    return {"catalog": folder / "catalog.parquet", **{name: folder / name for name in ("runs", "predictions", "attention", "excluded")}}


def test_the_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits, features = write_inputs(tmp_path, without=(0,))
    out = outputs(tmp_path)
    gma(splits=splits, features=features, **out, settings=settings(epochs=3), workers=2)
    runs, predictions, excluded = pd.read_csv(out["runs"]), pd.read_parquet(out["predictions"]), pd.read_csv(out["excluded"])
    assert list(runs.columns) == ["split", "replica", "epoch", "loss", "val_loss", "auc"]
    assert runs[["split", "replica", "epoch"]].to_numpy().tolist() == [[s, r, e] for s in (1, 2) for r in (1, 2) for e in range(4)]
    assert runs["loss"].isna().tolist() == [True, False, False, False] * 4
    assert excluded.to_dict("list") == {"slide": ["s00"], "reason": ["failed: torn"]}
    assert "1 of 12 slides are left out, failed: torn: s00\n" in capsys.readouterr().err
    assert len(predictions) == 2 * 3 + 2 * 4
    for (split, replica), part in predictions.groupby(["split", "replica"]):
        last = runs[(runs["split"] == split) & (runs["replica"] == replica)].iloc[-1]
        assert last["auc"] == pytest.approx(roc_auc_score(part["target"], part["probability_1"]))
        assert part["threshold"].nunique() == 1
        assert (part["probability_0"] + part["probability_1"]).to_numpy() == pytest.approx(np.ones(len(part)))
    gma(splits=splits, features=features, **out, settings=settings(epochs=3), workers=1)
    pd.testing.assert_frame_equal(pd.read_csv(out["runs"]), runs)


def test_attention_is_the_mean_over_the_runs_that_a_slide_validates(tmp_path: Path) -> None:
    splits, features = write_inputs(tmp_path)
    out = outputs(tmp_path)
    gma(splits=splits, features=features, **out, settings=settings(epochs=2), workers=1)
    attention, bags = pd.read_parquet(out["attention"]), drawn_bags(12)
    assert attention.dtypes.astype(str).to_dict() == {"slide": "str", "tile": "int32", "attention": "float32", "runs": "int16"}
    first, second = read_splits(splits, bags)
    assert attention["slide"].unique().tolist() == [bags.slides[n] for n in (*first.val, *second.val)], "slides 4 to 7 never validate"
    assert set(attention["runs"]) == {2}
    runs = [train(bags, [Run(second, replica)], settings(epochs=2), torch.device("cpu"))[0].attention for replica in (1, 2)]
    later = attention[attention["slide"] >= "s08"]
    assert later["attention"].to_numpy() == pytest.approx(np.mean(runs, axis=0), rel=1e-5)
    for slide, rows in attention.groupby("slide"):
        assert rows["tile"].tolist() == list(range(len(bags.tiles(bags.slides.index(str(slide))))))
        assert rows["attention"].sum() == pytest.approx(1, abs=1e-5)
    assert len(pd.read_parquet(out["attention"], filters=[("slide", "==", "s09")])) == len(bags.tiles(9))


def test_three_classes(tmp_path: Path) -> None:
    splits, features = write_inputs(tmp_path)
    table = pd.read_csv(splits).assign(target=np.arange(12) % 3)
    table.to_csv(splits, index=False)
    out = outputs(tmp_path)
    gma(splits=splits, features=features, **out, settings=settings(epochs=1), workers=1)
    predictions = pd.read_parquet(out["predictions"])
    assert predictions.columns.tolist()[4:] == ["probability_0", "probability_1", "probability_2", "threshold"]
    assert predictions["threshold"].isna().all()
    table.assign(target=table["target"].replace(2, 3)).to_csv(splits, index=False)
    with pytest.raises(UserError, match=r"split mccv1 has no slide of class 2 left on its train side"):
        gma(splits=splits, features=features, **out, settings=settings(epochs=1), workers=1)


def test_a_class_that_vanishes(tmp_path: Path) -> None:
    splits, features = write_inputs(tmp_path, without=(0, 2))
    out = outputs(tmp_path)
    with pytest.raises(
        UserError, match=r"split mccv1 has no slide of class 0 left on its val side, once slides without features are out \(10 "
    ):
        gma(splits=splits, features=features, **out, settings=settings(), workers=1)


@pytest.mark.parametrize(("slide", "digest"), [(3, "other tiles"), (3, None), (0, "mended")])
def test_features_of_other_tiles_are_refused(slide: int, digest: str | None, tmp_path: Path) -> None:
    splits, features = write_inputs(tmp_path, without=(0,))
    catalog = pd.read_parquet(tmp_path / "catalog.parquet")
    catalog.loc[slide, "rows_digest"] = digest
    catalog.to_parquet(tmp_path / "catalog.parquet")
    with pytest.raises(UserError, match=rf"features of 1 slides \(s{slide:02d}\) are of other tiles .* Run again"):
        gma(splits=splits, features=features, **outputs(tmp_path), settings=settings(), workers=1)


def test_splits_are_read_as_numbers_of_slides(tmp_path: Path) -> None:
    table, _ = write_inputs(tmp_path)
    first, second = read_splits(table, drawn_bags(12))
    assert (first.number, first.val.tolist(), first.train.tolist()) == (1, [0, 1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11])
    assert (second.number, second.val.tolist()) == (2, [8, 9, 10, 11])


def test_splits_keep_the_numbers_of_their_columns(tmp_path: Path) -> None:
    table, _ = write_inputs(tmp_path)
    pd.read_csv(table).rename(columns={"mccv1": "mccv2", "mccv2": "mccv10"}).to_csv(table, index=False)
    assert [split.number for split in read_splits(table, drawn_bags(12))] == [2, 10]


def test_no_worker_outlives_a_killed_job(tmp_path: Path) -> None:
    splits, features = write_inputs(tmp_path)
    out = [f"--{name}={path}" for name, path in outputs(tmp_path).items()]
    inputs = [f"--splits={splits}", "--features", *map(str, features), "--workers=2", f"--settings={settings(epochs=100_000).json_text()}"]
    process = subprocess.Popen([sys.executable, "-m", "microtome.gma", *out, *inputs], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(children := running_with(str(tmp_path))) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    time.sleep(0.5)
    assert len(children) == 3, "the job and its two workers"
    assert not running_with(str(tmp_path))
    assert not (tmp_path / "runs").exists()


def running_with(text: str) -> list[str]:
    """The processes whose command line holds `text`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] * (text in path.read_text())
        except OSError:
            continue
    return found
