import pytest

from microtome.slide_tiles import nominal_magnification


@pytest.mark.parametrize(
    ("mpp", "power"), [(0.2456, 40), (0.2525, 40), (0.499, 20), (0.5, 20), (0.121, 80), (1.0, 10), (3.0, None), (float("nan"), None)]
)
def test_magnifications_are_tridents(mpp: float, power: int | None) -> None:
    """Its bins, not 10 / mpp: a scanner of 0.2456 µm/px is 40x, and TRIDENT multiplies by the ratio of two of them."""
    assert nominal_magnification(mpp) == power
