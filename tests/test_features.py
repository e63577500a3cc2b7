import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from microtome.cohort import shard_of
from microtome.encoder_config import RunEncoder, TimmEncoder
from microtome.errors import UserError
from microtome.features import features
from microtome.settings import EncoderSettings
from microtome.vision_models import backbone
from tests.stage_settings import encoder_settings
from tests.tile_folder import slide_table, tile_jpeg, write_tiles

TILE_PX = 32


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Six slides in three shards, their tiles, a catalog and a task of five of them; the working directory is theirs."""
    monkeypatch.chdir(tmp_path)
    slides = slide_table({"breast": [5, 3, 40], "lung": [7, 1, 4]})
    write_tiles(Path("tiles"), slides)
    catalog = pd.concat([pd.read_parquet(path) for path in sorted(Path("tiles").glob("*.parquet"))]).sort_values("slide", ignore_index=True)
    catalog = catalog.assign(reason="", mpp_px0=0.25, tile_px0=64.0, width_px0=4000, height_px0=3000)
    catalog.to_parquet("catalog.parquet")
    write_task(catalog["slide"][:5])
    return catalog


def write_task(slides: "pd.Series[str] | list[str]") -> None:
    pd.DataFrame({"slide": slides, "target": [n % 2 for n in range(len(slides))]}).to_csv("task.csv", index=False)


def make(
    settings: EncoderSettings | None = None,
    batch: int = 8,
    weights: Path | None = None,
    shard: str = "0",
    shards: int = 1,
    root: str = "features",
) -> pd.DataFrame:
    table = Path(f"{root}/{shard}.parquet")
    features(
        catalog=Path("catalog.parquet"),
        tiles=Path("tiles"),
        slides_of=[Path("task.csv")],
        shard=shard,
        shards=shards,
        folder=Path(root) / shard,
        table=table,
        settings=settings or encoder_settings(),
        batch=batch,
        workers=1,
        weights=weights,
    )
    return pd.read_parquet(table)


def read(slide: str, shard: str = "0") -> np.ndarray:
    with h5py.File(f"features/{shard}/{slide}.h5") as file:
        return np.asarray(file["features"][:])


def test_order_and_count_match_the_index(cohort: pd.DataFrame) -> None:
    made = make()
    assert made["slide"].tolist() == cohort["slide"][:5].tolist()
    assert made["tiles"].tolist() == [5, 3, 40, 7, 1]
    assert set(made["dim"]) == {512}
    assert set(made["status"]) == {"ok"}
    for row in made.itertuples():
        with h5py.File(row.path) as file:
            assert file["features"].shape == (row.tiles, 512)
            assert file["features"].dtype == np.float32
            assert file["coords"][:].tolist() == [[tile * TILE_PX, 0] for tile in range(row.tiles)]
            attributes = dict(file["coords"].attrs)
            assert dict(file["features"].attrs) == {"name": row.slide, "savetodir": "features/0"}
            assert attributes["savetodir"] == "features/0"
            assert attributes["patch_size"] == TILE_PX
            assert attributes["patch_size_level0"] == 64
            assert attributes["name"] == row.slide
            assert "patch_level" not in attributes, "CLAM would read patch_size pixels of it"
            assert attributes["level0_magnification"] == 40
            assert attributes["target_magnification"] == 20


def test_features_are_those_of_the_tile_alone(cohort: pd.DataFrame) -> None:
    """Against the plain way: Pillow, ImageNet's numbers, one tile at a time."""
    import io

    from PIL import Image

    make()
    model = backbone("resnet18", pretrained=False, seed=0).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for tile in (0, 17, 39):
        pixels = np.asarray(Image.open(io.BytesIO(tile_jpeg("slide002", tile, TILE_PX))).convert("RGB"))
        image = ((torch.from_numpy(pixels.copy()) / 255 - mean) / std).permute(2, 0, 1)
        with torch.inference_mode():
            np.testing.assert_allclose(read("slide002")[tile], model(image[None])[0].numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batch_size_does_not_matter(cohort: pd.DataFrame, batch: int) -> None:
    make()
    expected = {slide: read(slide) for slide in cohort["slide"][:5]}
    for path in Path("features/0").glob("*.h5"):
        path.unlink()
    make(batch=batch)
    for slide, features_of_slide in expected.items():
        np.testing.assert_allclose(read(slide), features_of_slide, atol=1e-5 * np.abs(features_of_slide).max())


def test_fp32_is_never_tf32(cohort: pd.DataFrame) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    make()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_progress_ends_with_no_slide_left(cohort: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    make(batch=4)
    written = capsys.readouterr().err
    assert "56/56" in written
    assert written.rstrip().endswith("tile/s, 0 slides left]")


def test_a_rerun_makes_only_what_is_missing(cohort: pd.DataFrame) -> None:
    make()
    before = {path.name: path.stat().st_mtime_ns for path in Path("features/0").glob("*.h5")}
    write_task(cohort["slide"][1:6])
    made = make()
    after = {path.name: path.stat().st_mtime_ns for path in Path("features/0").glob("*.h5")}
    assert set(after) == {f"{slide}.h5" for slide in cohort["slide"][1:6]}, "the slide that left is swept"
    assert {name for name in after if after[name] != before.get(name)} == {"slide005.h5"}
    assert made["dim"].tolist() == [512] * 5
    make(encoder_settings(seed=1))
    again = {path.name: path.stat().st_mtime_ns for path in Path("features/0").glob("*.h5")}
    assert all(again[name] != after[name] for name in again), "other weights make every file anew"


def test_a_half_written_file_counts_for_nothing(cohort: pd.DataFrame) -> None:
    make()
    whole = read("slide002")
    path = Path("features/0/slide002.h5")
    path.write_bytes(path.read_bytes()[:3000])
    Path("features/0/.slide001.h5.123.part").write_bytes(b"half")
    make()
    np.testing.assert_array_equal(read("slide002"), whole)
    assert not list(Path("features/0").glob(".*.part"))


def test_a_file_with_other_coords_is_made_again(cohort: pd.DataFrame) -> None:
    make()
    whole, path = read("slide002"), Path("features/0/slide002.h5")
    with h5py.File(path, "a") as file:
        file["coords"][:] = file["coords"][:][::-1]
        file["features"][:] = 0
    make()
    np.testing.assert_array_equal(read("slide002"), whole)
    with h5py.File(path) as file:
        assert file["coords"][:, 0].tolist() == list(range(0, 40 * TILE_PX, TILE_PX))


def test_shards_share_the_slides_out(cohort: pd.DataFrame) -> None:
    made = [make(shard=shard, shards=3) for shard in ("0", "1", "2")]
    assert sorted(pd.concat(made)["slide"]) == cohort["slide"][:5].tolist()


def test_no_slide_is_an_empty_table(cohort: pd.DataFrame) -> None:
    empty = [made for made in (make(shard=f"{n:02d}", shards=64) for n in range(3)) if made.empty]
    assert empty
    assert list(empty[0].columns) == ["slide", "status", "reason", "tiles", "dim", "path", "rows_digest"]


def test_every_slide_without_features_has_its_reason(cohort: pd.DataFrame) -> None:
    catalog = cohort.astype({"tiles": "float64"})
    catalog.loc[0, ["status", "reason", "tiles"]] = ["failed", "no µm/px", 0]
    catalog.loc[1, ["status", "reason", "tiles"]] = ["empty", "no tissue", 0]
    catalog.to_parquet("catalog.parquet")
    write_task([*cohort["slide"], "unheard_of"])
    tar = Path("tiles/2/slide002.tar")
    data = bytearray(tar.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)  # in the middle of some tile
    tar.write_bytes(data)
    made = make().set_index("slide")
    assert made.loc["slide000", ["status", "reason", "dim", "path"]].tolist() == ["failed", "no µm/px", 0, ""]
    assert made.loc["slide001", ["status", "reason"]].tolist() == ["empty", "no tissue"]
    assert made.loc["slide002", "status"] == "failed"
    assert "slide002.tar" in made.loc["slide002", "reason"]
    assert made.loc["unheard_of", ["status", "reason"]].tolist() == ["failed", "the slide table does not have it"]
    assert made.loc[["slide003", "slide004", "slide005"], "status"].eq("ok").all()
    assert {path.stem for path in Path("features/0").glob("*.h5")} == {"slide003", "slide004", "slide005"}


def test_a_missing_tar_and_a_missing_index(cohort: pd.DataFrame) -> None:
    Path("tiles/1/slide001.tar").unlink()
    made = make().set_index("slide")
    assert made.loc["slide001", "status"] == "failed"
    assert "No such file" in made.loc["slide001", "reason"]
    Path("tiles/1.arrow").unlink()
    with pytest.raises(UserError, match=r"1\.arrow: no such tile index"):
        make()


def test_float16(cohort: pd.DataFrame) -> None:
    make()
    exact = read("slide000")
    make(encoder_settings(dtype="float16"))
    assert read("slide000").dtype == np.float16
    np.testing.assert_allclose(read("slide000"), exact, rtol=1e-3, atol=1e-4)


def test_a_checkpoint_of_a_run(cohort: pd.DataFrame) -> None:
    model = backbone("vit_tiny_patch16_224", pretrained=False, img_size=TILE_PX, seed=5)
    card = {"model": "vit_tiny_patch16_224", "img_size": TILE_PX, "mean": [0.5] * 3, "std": [0.5] * 3}
    save_file(model.state_dict(), "encoder.safetensors", {"card": json.dumps(card)})
    encoder = RunEncoder(run="dino", pseudo_epochs=(5,), pooling="cls+mean", input_px=None)
    made = make(encoder_settings(encoder=encoder), weights=Path("encoder.safetensors"))
    assert set(made["dim"]) == {384}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_fp32(cohort: pd.DataFrame, precision: str) -> None:
    encoder = TimmEncoder(
        timm="vit_tiny_patch16_224", weights="random", arguments={}, normalization=None, truncate=None, pooling="cls", input_px=TILE_PX
    )
    make(encoder_settings(encoder=encoder))
    exact = read("slide002")
    make(encoder_settings(encoder=encoder, precision=precision))
    assert 0 < np.abs(read("slide002") - exact).max() < 0.1 * np.abs(exact).max()


def test_soak_shards_killed_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there after SIGKILL is whole, and what comes out in the end is what an undisturbed run makes."""
    monkeypatch.chdir(tmp_path)
    slides = slide_table({"breast": [30] * 12})
    write_tiles(Path("tiles"), slides)
    catalog = pd.concat([pd.read_parquet(path) for path in sorted(Path("tiles").glob("*.parquet"))]).sort_values("slide", ignore_index=True)
    catalog.assign(reason="", mpp_px0=0.25, tile_px0=64.0, width_px0=4000, height_px0=3000).to_parquet("catalog.parquet")
    write_task(catalog["slide"])
    make(shard="0", shards=2)
    make(shard="1", shards=2)
    undisturbed = {path.stem: read(path.stem, path.parent.name) for path in Path("features").glob("*/*.h5")}
    moments = random.Random(0)
    soak = os.environ.get("MICROTOME_SOAK")
    for shard in ("0", "1"):
        table, folder = Path("killed") / f"{shard}.parquet", Path("killed") / shard
        flags = ["--catalog=catalog.parquet", "--tiles=tiles", "--slides-of", "task.csv", f"--shard={shard}", "--shards=2", "--batch=8"]
        flags += [f"--folder={folder}", f"--table={table}", "--workers=1", f"--settings={encoder_settings().json_text()}"]
        for _ in range(10 if soak else 1):
            before = len(list(folder.glob("*.h5")))
            process = subprocess.Popen([sys.executable, "-m", "microtome.features", *flags], stderr=subprocess.DEVNULL)
            while process.poll() is None and len(list(folder.glob("*.h5"))) <= before:
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
            if table.exists():
                assert set(pd.read_parquet(table)["slide"]) == {path.stem for path in folder.glob("*.h5")}, (
                    "a table of a shard that is done"
                )
                break
            for path in folder.glob("*.h5"):
                with h5py.File(path) as file:
                    np.testing.assert_array_equal(file["features"][:], undisturbed[path.stem])
        make(shard=shard, shards=2, root="killed")
        assert {path.stem for path in folder.glob("*.h5")} == {slide for slide in undisturbed if shard_of(slide, 2) == shard}
        for row in pd.read_parquet(table).itertuples():
            with h5py.File(row.path) as file:
                np.testing.assert_array_equal(file["features"][:], undisturbed[row.slide])
        assert not list(folder.glob(".*.part"))
