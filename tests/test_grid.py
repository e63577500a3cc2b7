"""Where tiles lie on a slide."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.config import Grid
from microtome.grid import tile_grid
from microtome.slides import SlideError

LAYOUTS = st.sampled_from(["published", "aligned"])
SIDES = st.integers(1, 300_000)


@settings(deadline=None)
@given(width=SIDES, height=SIDES, mpp=st.floats(0.05, 0.5), tile_px=st.integers(16, 1024), layout=LAYOUTS)
def test_tiles_lie_on_the_slide_and_do_not_overlap(width: int, height: int, mpp: float, tile_px: int, layout: str) -> None:
    places = tile_grid(width, height, mpp, Grid(tile_px=tile_px, mpp=0.5, layout=layout))
    for origins, length, cell in ((places.x_px0, width, places.cell_px0[0]), (places.y_px0, height, places.cell_px0[1])):
        assert len(origins) == int(length // places.tile_px0)
        if len(origins) == 0:
            continue
        assert origins[0] >= 0
        assert origins[-1] + places.tile_px0 <= length * (1 + 1e-12)
        assert (np.diff(origins) >= places.tile_px0 * (1 - 1e-9)).all()
        cells = np.arange(len(origins)) * cell  # every tile lies in its own cell of the mask
        assert (origins >= cells - 1e-6).all()
        assert (origins + places.tile_px0 <= cells + cell + 1e-6).all()


def test_the_published_margin_is_spread_evenly() -> None:
    places = tile_grid(1000, 300, 0.5, Grid(tile_px=256, mpp=0.5, layout="published"))
    assert places.x_px0.tolist() == [0, 372, 744]  # 232 px are left over: 116 between each two
    assert places.y_px0.tolist() == [22]  # a single tile lies in the middle
    assert places.cell_px0 == (1000 / 3, 300)


def test_aligned_strides_are_whole_pixels_from_the_origin() -> None:
    places = tile_grid(2220, 1100, 0.2525, Grid(tile_px=256, mpp=0.5, layout="aligned"))
    assert places.tile_px0 == 507  # 506.93
    assert places.x_px0.tolist() == [0, 507, 1014, 1521]


@pytest.mark.parametrize(("mpp", "fails"), [(0.5, False), (0.503, False), (0.506, True), (0.69, True)])
def test_a_level_0_coarser_than_wanted_is_refused(mpp: float, fails: bool) -> None:
    grid = Grid(tile_px=256, mpp=0.5, layout="published")
    if fails:
        with pytest.raises(SlideError, match=rf"level 0 has {mpp} µm/px, coarser than the 0.5 that grid.mpp wants"):
            tile_grid(5000, 5000, mpp, grid)
    else:
        assert tile_grid(5000, 5000, mpp, grid).columns == 19
