"""Coordinates that others made: those of TRIDENT and CLAM become places at which features are made, and bad files are refused."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from microtome.errors import UserError
from microtome.import_coords import import_coords
from tests.slide_store import made, read, write_store

KINDS = ("scaled", "cut", "rgb")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("store"), KINDS)


def write_coords(path: Path, coords: Any, **attributes: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"] = np.asarray(coords)
        file["coords"].attrs.update(attributes)
    return path


def test_a_round_trip_of_coordinates(store: Path, tmp_path: Path) -> None:
    """Features made here, as TRIDENT's coordinates, imported: the same places, the same features."""
    before = made(store, tmp_path / "before", "slides")
    files = [write_coords(tmp_path / "their" / f"{s}_patches.h5", read(before["path"][s])[1], **read(before["path"][s])[2]) for s in KINDS]
    import_coords(files, store / "slides.csv", tmp_path / "coords")
    after = made(store, tmp_path / "after", "slides", tmp_path / "coords" / "slides.parquet", tmp_path / "coords")
    for slide in KINDS:
        (ours, coords, said), (theirs, their_coords, theirs_said) = read(after["path"][slide]), read(before["path"][slide])
        np.testing.assert_array_equal(coords, their_coords)
        assert {**said, "savetodir": ""} == {**theirs_said, "savetodir": ""}
        if slide != "cut":  # whose tiles are not a whole number of level-0 pixels wide, which TRIDENT's attribute rounds
            np.testing.assert_array_equal(ours, theirs)
    assert after.loc["gone", ["status", "reason"]].tolist() == ["failed", "the slide table does not have it"]


def test_coordinates_of_clam_and_those_over_the_edge(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CLAM's patch_size is in pixels of patch_level: 128 of level 1 of `rgb`, whose downsample is 2, are 256 of level 0."""
    rgb = write_coords(tmp_path / "h5" / "rgb.h5", [[300, 200], [1025, 0], [1024, 768]], patch_size=128, patch_level=1)
    gone = write_coords(tmp_path / "h5" / "gone.h5", [[0, 0]], patch_size=128, patch_level=1)
    scaled = write_coords(tmp_path / "h5" / "scaled.h5", [[0, 0]], patch_size=128, patch_level=1)
    outside = write_coords(tmp_path / "h5" / "cut.h5", [[-1, 0]], patch_size=128, patch_level=0)
    import_coords([rgb, gone, scaled, outside], store / "slides.csv", tmp_path / "coords")
    assert "2 tiles of 4 slides (2 failed, 1 empty, 1 ok); 2 over a slide's edge were left out" in capsys.readouterr().out
    rows = pd.read_parquet(tmp_path / "coords" / "slides.parquet").set_index("slide")
    assert rows.loc["rgb", ["tiles", "dropped", "tile_px", "tile_px0"]].tolist() == [2, 1, 128, 256]
    assert "no such file" in rows["reason"]["gone"]
    assert rows["reason"]["scaled"] == "its coordinates are for level 1, it has 1 levels"
    assert "has no coordinates on the slide" in rows["reason"]["cut"]
    found = made(store, tmp_path / "out", "slides", tmp_path / "coords" / "slides.parquet", tmp_path / "coords")
    assert found["status"].to_dict() == {"cut": "empty", "gone": "failed", "rgb": "ok", "scaled": "failed"}
    assert read(found["path"]["rgb"])[1].tolist() == [[300, 200], [1024, 768]]


@pytest.mark.parametrize("none", [np.zeros((0, 2), np.int64), np.zeros(0), np.zeros((1, 0, 2))])
def test_a_slide_on_which_they_found_nothing_is_empty(store: Path, tmp_path: Path, none: Any) -> None:
    files = [write_coords(tmp_path / "cut.h5", none, patch_size=64, patch_level=0)]
    files.append(write_coords(tmp_path / "rgb.h5", [[[8, 9], [0, 1]]], patch_size=64, patch_size_level0=128))  # [1, n, 2], as some write
    import_coords(files, store / "slides.csv", tmp_path / "coords")
    rows = pd.read_parquet(tmp_path / "coords" / "slides.parquet").set_index("slide")
    assert rows["status"].to_dict() == {"cut": "empty", "rgb": "ok"}
    assert rows.loc["rgb", ["tiles", "first_row", "tile_px0"]].tolist() == [2, 0, 128]
    assert "has no coordinates on the slide" in rows["reason"]["cut"]


@pytest.mark.parametrize(
    ("name", "coords", "attributes", "message"),
    [
        ("rgb.h5", [[0, 0, 0]], {"patch_size": 8, "patch_level": 0}, r"expected coords \[tiles, 2\], found \[1, 3\]"),
        ("rgb.h5", [[0, 0]], {"patch_size": 8}, "as TRIDENT, patch_size_level0 or, as CLAM, patch_level; found patch_size"),
        ("rgb.h5", [[0, 0]], {"patch_size": 8, "patch_level": 0, "custom_downsample": 2}, "found custom_downsample 2"),
        ("other.h5", [[0, 0]], {"patch_size": 8, "patch_level": 0}, r"the slide table has no slide other. Expected files named"),
    ],
)
def test_bad_coordinates(store: Path, tmp_path: Path, name: str, coords: Any, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_coords([write_coords(tmp_path / name, coords, **attributes)], store / "slides.csv", tmp_path / "coords")


def test_coordinates_that_do_not_go_together(store: Path, tmp_path: Path) -> None:
    (tmp_path / "rgb.h5").write_bytes(b"x")
    with pytest.raises(UserError, match="expected an HDF5 file with coords"):
        import_coords([tmp_path / "rgb.h5"], store / "slides.csv", tmp_path / "coords")
    small = write_coords(tmp_path / "cut.h5", [[0, 0]], patch_size=64, patch_level=0)
    large = write_coords(tmp_path / "rgb_patches.h5", [[0, 0]], patch_size=128, patch_level=0)
    with pytest.raises(UserError, match=r"more than one patch_size: 64 \(slide cut\), 128 \(slide rgb\)"):
        import_coords([small, large], store / "slides.csv", tmp_path / "coords")
    again = write_coords(tmp_path / "rgb.h5", [[0, 0]], patch_size=128, patch_level=0)
    with pytest.raises(UserError, match=r"Slide rgb has more than one file: .*rgb\.h5, .*rgb_patches\.h5"):
        import_coords([again, large], store / "slides.csv", tmp_path / "coords")
