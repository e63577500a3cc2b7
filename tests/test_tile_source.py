"""Where tiles come from: cut and coded again, or the source's own, at whole pixels and never over the edge."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from tests.drawn_slides import tissue_like, write_slide
from tests.test_tiles import index_of, pixels_of, run


@pytest.mark.parametrize(("subsampling", "expected"), [("420", "420"), ("444", "444")])
def test_chroma_is_subsampled_as_configured(subsampling: str, expected: str, tmp_path: Path) -> None:
    run(tmp_path, {"a": {"path": str(write_slide(tmp_path / "a.tiff", tissue_like(500, 400)))}}, jpeg_subsampling=subsampling)
    tar = (tmp_path / "tiles" / "0" / "a.tar").read_bytes()
    headers = {simplejpeg.decode_jpeg_header(tar[row.offset_b : row.offset_b + row.size_b]) for row in index_of(tmp_path).itertuples()}
    assert headers == {(128, 128, "YCbCr", expected)}


def test_origins_snap_to_the_decode_scale(tmp_path: Path) -> None:
    path = str(write_slide(tmp_path / "a.tiff", tissue_like(1501, 1103), 0.125, factors=(1,)))
    found = run(tmp_path, {"a": {"path": path}}, grid={"tile_px": 64}).loc["a"]
    index = index_of(tmp_path)
    assert 0 < found["shift_px0"] <= 4  # decoded at 1/4: half a pixel of it, or up to one where the edge is in the way
    assert (index[["x_px0", "y_px0"]] % 4 == 0).all(axis=None)


def test_matching_source_tiles_are_copied(tmp_path: Path) -> None:
    drawn = tissue_like(1500, 1100)
    path = write_slide(tmp_path / "a.tiff", drawn, kind="aperio", coding="rgb", tile_px=128, quality=90)
    found = run(tmp_path, {"a": {"path": str(path)}}, grid={"layout": "aligned"}).loc["a"]
    index = index_of(tmp_path)
    assert (found["reader"], found["shift_px0"], found["mpp"]) == ("copy", 0, 0.5)
    assert index[["mean", "sd", "sharpness"]].isna().all(axis=None)  # not decoded
    source = path.read_bytes()
    for row in index.itertuples():
        expected = drawn[row.y_px0 : row.y_px0 + 128, row.x_px0 : row.x_px0 + 128]
        assert np.abs(pixels_of(tmp_path, "a", row).astype(int) - expected).mean() < 2
        data = (tmp_path / "tiles" / "0" / "a.tar").read_bytes()[row.offset_b : row.offset_b + row.size_b]
        assert data[-row.size_b // 2 :] in source  # not coded again
    measured = run(tmp_path, {"a": {"path": str(path)}}, grid={"layout": "aligned"}, min_intensity_sd=1.0).loc["a"]
    assert measured["reader"] == "copy"
    assert index_of(tmp_path)["sharpness"].min() > 0
