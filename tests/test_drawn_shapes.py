"""Drawn shapes against geometry: areas, distances, directions, and scales."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from microtome.drawn_shapes import blob, blurred, ellipses, even_points, evened, ring_points, rng_of, smooth_noise, waves


def test_points_without_jitter_are_a_hexagonal_lattice() -> None:
    points = even_points(rng_of(0), (400, 300), 20, 0.0)
    inner = points[((points > 40) & (points < np.array([360, 260]))).all(1)]
    nearest = KDTree(points).query(inner, 8)[0]
    np.testing.assert_allclose(nearest[:, 1:7], 20)
    assert nearest[:, 7].min() > 30
    assert len(points) == pytest.approx(400 * 300 / (20**2 * np.sqrt(3) / 2), rel=0.1)
    assert even_points(rng_of(0), (400, 300), 0).shape == (0, 2)


def test_rings_lie_around_their_centres() -> None:
    centres = np.array([[0.0, 0.0], [1000.0, 500.0]])
    points, degrees = ring_points(rng_of(1), centres, 50, 5)
    each = round(2 * np.pi * 50 / 5)
    assert (len(points), len(degrees)) == (2 * each, 2 * each)
    out = (points - np.repeat(centres, each, axis=0)) / (1, 0.8)
    assert np.hypot(*out.T).mean() == pytest.approx(50, rel=0.02)
    np.testing.assert_allclose(np.exp(1j * np.radians(degrees)), (out @ (1, 1j)) / np.hypot(*out.T), atol=1e-9)
    assert [len(found) for found in ring_points(rng_of(1), centres[:0], 50, 5)] == [0, 0]


def test_an_ellipse_is_where_it_was_said_at_a_fraction_of_a_pixel() -> None:
    plane = ellipses((100, 120), np.array([[60.25, 40.5]]), np.array([[30.0, 10.0]]), np.array([30.0]), np.array([1.0]))
    assert plane.sum() == pytest.approx(np.pi * 30.5 * 10.5, rel=0.03)  # OpenCV's edge is half a pixel further out
    y, x = np.mgrid[:100, :120]
    centre = np.array([(plane * x).sum(), (plane * y).sum()]) / plane.sum()
    np.testing.assert_allclose(centre, (60.25, 40.5), atol=0.1)
    spread = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=plane.ravel())
    lengths, axes = np.linalg.eigh(spread)
    np.testing.assert_allclose(2 * np.sqrt(lengths), (10.5, 30.5), atol=0.4)
    assert np.degrees(np.arctan2(*axes[::-1, 1])) % 180 == pytest.approx(30, abs=1)


def test_later_ellipses_cover_earlier_ones() -> None:
    same, semi = np.full((2, 2), 20.0), np.full((2, 2), 8.0)
    plane = ellipses((40, 40), same, semi, np.zeros(2), np.array([1.0, 0.4]))
    assert plane[20, 20] == pytest.approx(0.4, abs=1 / 255)
    none = np.zeros((0, 2))
    assert not ellipses((40, 40), none, none, np.zeros(0), np.zeros(0)).any()


def test_an_evened_plane_has_the_same_mean_everywhere() -> None:
    rng = rng_of(2)
    plane = (1 + np.linspace(0, 4, 400)[None] + rng.random((300, 400))).astype(np.float32)
    weight = (rng.random((300, 400)) > 0.3).astype(np.float32)
    found = evened(plane, weight, 0.25, 24)
    local = gaussian_filter(found * weight, 24) / gaussian_filter(weight, 24)
    before = gaussian_filter(plane * weight, 24) / gaussian_filter(weight, 24)
    assert before.max() / before.min() > 3
    np.testing.assert_allclose(local[24:-24, 24:-24], 0.25, rtol=0.05)
    assert not evened(np.zeros_like(plane), weight, 0.25, 24).any()  # nothing cannot be made more


def test_waves_have_their_length_and_direction() -> None:
    stripes = waves(rng_of(3), (256, 256), 16.0, 30.0, 800)  # bends over a length far beyond the plane: hardly
    assert np.abs(stripes).max() <= 1
    power = np.abs(np.fft.fft2(stripes)) ** 2
    row, column = np.unravel_index(power[:, :128].argmax(), (256, 128))
    frequency = np.array([column, (row + 128) % 256 - 128]) / 256
    assert 1 / np.hypot(*frequency) == pytest.approx(16, rel=0.1)
    along = np.degrees(np.arctan2(frequency[0], -frequency[1])) % 180  # stripes run across their frequency
    assert along == pytest.approx(30, abs=4)


@pytest.mark.parametrize("scale_px", [2.0, 8.0, 30.5])
def test_noise_has_its_scale_and_follows_from_the_position_alone(scale_px: float) -> None:
    noise = smooth_noise(rng_of(4, 1), (400, 500), scale_px)
    assert (noise.shape, noise.dtype) == ((400, 500), np.float32)
    assert abs(noise.mean()) < 0.2
    assert noise.std() == pytest.approx(1, abs=0.2)
    np.testing.assert_array_equal(noise, smooth_noise(rng_of(4, 1), (400, 500), scale_px))
    assert np.abs(noise - smooth_noise(rng_of(4, 2), (400, 500), scale_px)).mean() > 0.5
    steps = (int(scale_px / 4) or 1, int(3 * scale_px))
    near, far = (np.corrcoef(noise[:, :-step].ravel(), noise[:, step:].ravel())[0, 1] for step in steps)
    assert near > 0.6
    assert abs(far) < 0.25


def test_a_blob_fills_its_axes_and_a_blur_is_gaussian() -> None:
    found = blob(rng_of(5), (300, 400), (120, 80), 2.0)
    assert found.sum() == pytest.approx(np.pi * 120 * 80, rel=0.1)
    assert (found[150, 200], found[0, 0]) == (1, 0)
    plane = rng_of(6).random((60, 60)).astype(np.float32)
    np.testing.assert_allclose(blurred(plane, 3), gaussian_filter(plane, 3, mode="mirror"), atol=2e-3)
    np.testing.assert_array_equal(blurred(plane, 0.1), blurred(plane, 0.5))
