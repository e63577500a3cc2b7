"""Features straight from slides beside those of stored tiles, and at coordinates that others made; over drawn slides of several kinds."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from microtome.errors import UserError
from microtome.features import features
from microtome.import_coords import import_coords
from microtome.settings import EncoderSettings
from microtome.slide_pixels import SlideFile, SlidePixels, tile_pixels
from microtome.slide_tiles import locate
from microtome.tile_batches import StoredTiles, batches
from tests.drawn_slides import tissue_like, write_slide
from tests.test_encoders import settings as encoder_settings
from tests.test_tiles import run

DRAWN: dict[str, dict[str, Any]] = {
    "scaled": {"mpp": 0.25, "factors": (1,)},  # its JPEG tiles, decoded at half size
    "copied": {"mpp": 0.5, "tile_px": 128, "kind": "aperio"},  # its JPEG tiles, as they are
    "cut": {"mpp": 0.3, "factors": (1, 2), "kind": "philips"},
    "rgb": {"mpp": 0.25, "coding": "rgb"},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides, their stored tiles and catalog, a task of them."""
    folder = tmp_path_factory.mktemp("store")
    for seed, (slide, kind) in enumerate(DRAWN.items()):
        write_slide(folder / f"{slide}.tiff", tissue_like(1280, 1024, seed), **kind)
    slides = {slide: {"path": str(folder / f"{slide}.tiff")} for slide in [*DRAWN, "gone"]}
    write_slide(folder / "gone.tiff", tissue_like(768, 768), 0.25)
    made = run(folder, slides, {"layout": "aligned"}, jpeg_quality=95, jpeg_subsampling="444").reset_index()
    assert made["reader"].tolist() == ["copy", "jpeg", "jpeg", "jpeg", "jpeg"]  # copied, cut, gone, rgb, scaled
    sizes = pd.read_parquet(folder / "tissue" / "0.parquet")[["slide", "width_px0", "height_px0", "mpp"]].rename(columns={"mpp": "mpp_px0"})
    catalog = made.merge(sizes, on="slide").assign(shard="0", reason="", path=[slides[slide]["path"] for slide in made["slide"]])
    catalog.to_parquet(folder / "catalog.parquet")
    (folder / "gone.tiff").unlink()
    (folder / "task.csv").write_text("slide,target\n" + "".join(f"{slide},{n % 2}\n" for n, slide in enumerate(slides)))
    lines = [f"{slide},{values['path']},p,breast" for slide, values in slides.items()]
    (folder / "slides.csv").write_text("\n".join(["slide,path,patient,organ", *lines]) + "\n")
    return folder


def made(store: Path, out: Path, source: str, catalog: Path | None = None, tiles: Path | None = None) -> pd.DataFrame:
    settings = encoder_settings(timm="test_resnet", pooling="model", input_px=128).model_copy(update={"source": source})
    features(
        catalog=catalog or store / "catalog.parquet",
        tiles=tiles or store / "tiles",
        slides_of=[store / "task.csv"],
        shard="0",
        shards=1,
        folder=out / "0",
        table=out / "0.parquet",
        settings=EncoderSettings.model_validate(settings.model_dump()),
        batch=16,
        workers=2,
    )
    return pd.read_parquet(out / "0.parquet").set_index("slide")


def read(path: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]:
    with h5py.File(path) as file:
        return file["features"][:], file["coords"][:], dict(file["coords"].attrs)


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Any:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_features_from_slides_are_those_of_stored_tiles(store: Path, tmp_path: Path) -> None:
    """The same places; the pixels differ by one JPEG coding of quality 95, and where tiles were copied not at all."""
    stored, direct = made(store, tmp_path / "tiles", "tiles"), made(store, tmp_path / "slides", "slides")
    assert direct.loc["gone", "status"] == "failed"
    assert "gone.tiff" in direct.loc["gone", "reason"]
    for slide in DRAWN:
        (ours, coords, attributes), (theirs, their_coords, theirs_said) = read(direct["path"][slide]), read(stored["path"][slide])
        assert len(ours) > 10
        np.testing.assert_array_equal(coords, their_coords)
        assert {**attributes, "savetodir": ""} == {**theirs_said, "savetodir": ""}
        assert cosine(ours, theirs).min() > 0.999
        assert (cosine(ours, theirs) > cosine(ours, np.roll(theirs, 1, axis=0))).all(), "tiles beside one another differ by more"
        if slide == "copied":
            np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_pixels_from_slides_are_those_that_were_encoded(store: Path) -> None:
    catalog = pd.read_parquet(store / "catalog.parquet")
    rows = [row for row in catalog.itertuples() if row.slide != "gone"]
    slides = [locate(row, store / "tiles") for row in rows]
    files = {row.slide: SlideFile(Path(row.path), row.tile_px0) for row in rows}
    readers = [StoredTiles, lambda: SlidePixels(files, True), lambda: SlidePixels(files, False)]
    stored, fast, plain = (np.concatenate([b.values for b in batches(slides, 7, 2, lambda x: x.astype(int), r)]) for r in readers)
    assert np.abs(fast - stored).mean() < 1.5
    assert np.abs(fast - plain).mean() < 4  # the DCT scale beside an average of pixels


def test_one_tile_is_the_stored_one_or_the_slides(store: Path) -> None:
    row = next(row for row in pd.read_parquet(store / "catalog.parquet").itertuples() if row.slide == "copied")
    tiles, file = locate(row, store / "tiles"), SlideFile(Path(row.path), row.tile_px0)
    unstored = replace(tiles, tar=store / "none.tar")
    stored, read = (tile_pixels(of, 5, file).astype(int) for of in (tiles, unstored))
    assert np.abs(stored - read).max() <= 3  # the source's own JPEG, decoded here and by OpenSlide
    assert np.abs(stored - tile_pixels(unstored, 6, file)).mean() > 3


def test_each_thread_reads_with_a_reader_of_its_own_that_is_closed(store: Path) -> None:
    catalog = pd.read_parquet(store / "catalog.parquet")
    slides = [locate(row, store / "tiles") for row in catalog.itertuples()]
    threads: dict[int, set[int]] = {}
    closed: list[int] = []

    class Watched(StoredTiles):
        def __init__(self) -> None:
            super().__init__()
            self.close = lambda: closed.append(id(self))

        def read_into(self, image: Any, tiles: Any, row: int) -> None:
            threads.setdefault(id(self), set()).add(threading.get_ident())
            super().read_into(image, tiles, row)

    for _ in batches(slides, 4, 2, lambda images: images, Watched):
        pass
    assert all(len(of_reader) == 1 for of_reader in threads.values())
    assert set(threads) <= set(closed)


def write_coords(path: Path, coords: Any, **attributes: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"] = np.asarray(coords)
        file["coords"].attrs.update(attributes)
    return path


def test_a_round_trip_of_coordinates(store: Path, tmp_path: Path) -> None:
    """Features made here, as TRIDENT's coordinates, imported: the same places, the same features."""
    before = made(store, tmp_path / "before", "slides")
    files = [write_coords(tmp_path / "their" / f"{s}_patches.h5", read(before["path"][s])[1], **read(before["path"][s])[2]) for s in DRAWN]
    import_coords(files, store / "slides.csv", tmp_path / "coords")
    after = made(store, tmp_path / "after", "slides", tmp_path / "coords" / "slides.parquet", tmp_path / "coords")
    for slide in DRAWN:
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
    assert found["status"].to_dict() == {"copied": "failed", "cut": "empty", "gone": "failed", "rgb": "ok", "scaled": "failed"}
    assert read(found["path"]["rgb"])[1].tolist() == [[300, 200], [1024, 768]]


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
