from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from microtome.bags import HOST_SHARE, Bags, Files, gpu_room_b, groups_of, read_bags
from microtome.errors import UserError
from tests.test_feature_store import features, write


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Feature rows of four slides: two ok, one failed, one empty."""
    rows = []
    for number, (tiles, status) in enumerate([(5, "ok"), (3, "ok"), (0, "failed"), (0, "empty")]):
        path = write(tmp_path / f"s{number}.h5", features(tiles, seed=number)) if tiles else ""
        rows.append(
            {"slide": f"s{number}", "status": status, "reason": "" if tiles else "no µm/px", "tiles": tiles, "dim": 8 * bool(tiles)}
        )
        rows[-1]["path"] = str(path)
    return pd.DataFrame(rows)


def bags(folder: Path, table: pd.DataFrame, slides: list[str]) -> Any:
    table.iloc[:2].to_parquet(folder / "0.parquet")
    table.iloc[2:].to_parquet(folder / "1.parquet")
    task = pd.DataFrame({"slide": slides, "target": [n % 2 for n in range(len(slides))]})
    return read_bags([folder / "0.parquet", folder / "1.parquet"], task, torch.device("cpu"))


def test_bags_are_in_the_order_of_the_task(tmp_path: Path, table: pd.DataFrame) -> None:
    found, excluded = bags(tmp_path, table, ["s1", "s3", "s0", "s2", "s9"])
    assert found.slides == ["s1", "s0"]
    assert found.targets.tolist() == [0, 0]
    assert found.first == [0, 3, 8]
    assert found.dim == 8
    assert torch.equal(found.tiles(0), torch.from_numpy(features(3, seed=1)))
    assert torch.equal(found.tiles(1), torch.from_numpy(features(5, seed=0)))
    assert excluded.to_dict("list") == {
        "slide": ["s3", "s2", "s9"],
        "reason": ["empty: no µm/px", "failed: no µm/px", "no features were made of it"],
    }


def test_float16_stays_float16_until_it_is_used(tmp_path: Path, table: pd.DataFrame) -> None:
    write(tmp_path / "s0.h5", features(5).astype(np.float16))
    found, _ = bags(tmp_path, table, ["s0"])
    assert found.features.dtype == torch.float16
    assert found.tiles(0).dtype == torch.float32


def test_bad_features(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"None of the 2 slides of the task has features; s2, say: failed: no µm/px"):
        bags(tmp_path, table, ["s2", "s3"])
    wrong = features(5)
    wrong[2, 3] = np.nan
    write(tmp_path / "s0.h5", wrong)
    with pytest.raises(UserError, match=r"s0\.h5: 1 of 5 tiles have features that are NaN or infinite\. Delete .* make it anew"):
        bags(tmp_path, table, ["s0"])
    write(tmp_path / "s0.h5", features(4))
    with pytest.raises(UserError, match=r"s0\.h5: expected features of 5 tiles x 8, found 4 x 8"):
        bags(tmp_path, table, ["s0"])
    write(tmp_path / "s0.h5", features(5, 16))
    with pytest.raises(UserError, match=r"expected features of 5 tiles x 8, found 5 x 16"):
        bags(tmp_path, table, ["s0"])
    with h5py.File(write(tmp_path / "s0.h5", features(5)), "a") as file:
        del file["coords"]
    with pytest.raises(UserError, match=r"expected an HDF5 file with features and coords"):
        bags(tmp_path, table, ["s0"])
    (tmp_path / "s0.h5").write_bytes(b"no HDF5")
    with pytest.raises(UserError, match=r"expected an HDF5 file with features and coords"):
        bags(tmp_path, table, ["s0"])
    (tmp_path / "s0.h5").unlink()
    with pytest.raises(UserError, match=r"expected an HDF5 file"):
        bags(tmp_path, table, ["s0"])


def test_features_of_two_encoders(tmp_path: Path, table: pd.DataFrame) -> None:
    table.loc[1, "dim"] = 16
    with pytest.raises(UserError, match=r"more than one dimension: 8 \(slide s0\), 16 \(slide s1\)"):
        bags(tmp_path, table, ["s0", "s1"])


def test_a_slide_with_features_in_two_tables(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(UserError, match=r"Slide s1 has features more than once in .*0\.parquet, .*1\.parquet\. Expected each slide in one"):
        bags(tmp_path, pd.concat([table, table.iloc[1:2]]), ["s0", "s1"])


def test_features_of_two_dtypes(tmp_path: Path, table: pd.DataFrame) -> None:
    write(tmp_path / "s1.h5", features(3, seed=1).astype(np.float16))
    with pytest.raises(UserError, match=r"more than one dtype: torch\.float16 \(slide s1\), before it torch\.float32"):
        bags(tmp_path, table, ["s0", "s1"])


def test_features_that_do_not_fit_stay_in_their_files(
    tmp_path: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitting, _ = bags(tmp_path, table, ["s1", "s0"])
    assert "8 tiles x 8 of torch.float32, 0.0 GB, stay in memory, of which" in capsys.readouterr().err
    monkeypatch.setattr("microtome.bags.free_host_b", lambda: 256 / HOST_SHARE - 1)  # of 8 x 8 x 4 bytes
    streamed, _ = bags(tmp_path, table, ["s1", "s0"])
    assert "stay in their files and are read at every use" in capsys.readouterr().err
    assert isinstance(streamed.features, Files)
    assert (streamed.dim, streamed.first) == (fitting.dim, fitting.first)
    assert all(torch.equal(streamed.tiles(slide), fitting.tiles(slide)) for slide in (0, 1))
    write(tmp_path / "s1.h5", features(3, 16))
    with pytest.raises(UserError, match=r"s1\.h5: expected features of 3 tiles x 8, found 3 x 16"):
        bags(tmp_path, table, ["s1", "s0"])


def test_features_that_do_not_fit_on_the_gpu_are_pinned_where_they_are(
    tmp_path: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All at once; test_gma_on_gpu.py does it on a GPU."""
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr("microtome.bags.free_device_b", lambda _: 1)
    monkeypatch.setattr("microtome.bags._pin", pinned.append)
    table.to_parquet(tmp_path / "0.parquet")
    found, _ = read_bags([tmp_path / "0.parquet"], pd.DataFrame({"slide": ["s1", "s0"], "target": [0, 1]}), torch.device("cuda"))
    assert "GB is free; the GPU, with 0.0 GB free, gets them slide by slide" in capsys.readouterr().err
    assert [features.data_ptr() for features in pinned] == [found.features.data_ptr()]
    assert torch.equal(found.tiles(0), torch.from_numpy(features(3, seed=1)))


@pytest.mark.parametrize(("free_gb", "room_gb"), [(149, 126.65), (80, 68), (24, 16), (4, -4)])
def test_a_gpu_keeps_room_for_a_step(free_gb: float, room_gb: float) -> None:
    assert gpu_room_b(free_gb * 1e9) == pytest.approx(room_gb * 1e9)


def test_slides_are_grouped_by_their_tiles() -> None:
    drawn = Bags(["a", "b", "c", "d"], torch.zeros(4), torch.zeros(20, 3), [0, 4, 6, 16, 20])
    assert list(groups_of(drawn, [0, 1, 2, 3], 10)) == [[0, 1], [2], [3]]
    assert list(groups_of(drawn, [2, 3, 1], 6)) == [[2], [3, 1]], "a slide of more than 6 goes alone"
    assert list(groups_of(drawn, [], 10)) == []
