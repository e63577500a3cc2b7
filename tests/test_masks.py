"""Masks as GeoJSON and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from skimage.measure import label, points_in_poly

from microtome.masks import geojson, polygons, rasterise, read_geojson
from microtome.slides import SlideError

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14))


@settings(deadline=None)
@given(mask=MASKS, pixel_px0=st.tuples(st.floats(1, 600), st.floats(1, 600)))
def test_writing_and_reading_gives_the_same_mask(
    mask: NDArray[np.bool_], pixel_px0: tuple[float, float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mask.geojson"
    path.write_text(geojson(mask, pixel_px0))
    assert (rasterise(read_geojson(path), pixel_px0, *mask.shape) == mask).all()


@settings(deadline=None)
@given(mask=MASKS)
def test_each_connected_part_is_one_polygon_of_its_area(mask: NDArray[np.bool_]) -> None:
    labels = label(mask, connectivity=1)

    def area(ring: NDArray[np.float64]) -> float:  # the shoelace formula; y points down, so outlines are positive
        x, y = ring.T
        return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2

    areas = []
    for outline, *holes in polygons(mask):
        assert area(outline) > 0
        assert all(area(hole) < 0 for hole in holes)
        areas.append(area(outline) + sum(map(area, holes)))
    assert sorted(areas) == sorted(np.bincount(labels[labels > 0])[1:].tolist() if mask.any() else [])


@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_drawn_polygon_takes_the_pixels_whose_centre_is_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
    ring = 10 + np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(1, 14, (len(angles), 1))
    columns, rows = np.meshgrid(np.arange(20) + 0.5, np.arange(16) + 0.5)
    expected = points_in_poly(np.stack([columns.ravel(), rows.ravel()], 1), ring).reshape(16, 20)
    assert (rasterise([[ring * (3.0, 7.0)]], (3.0, 7.0), 16, 20) == expected).all()


SQUARE = [[0, 0], [40, 0], [40, 40], [0, 40], [0, 0]]
HOLE = [[10, 10], [10, 30], [30, 30], [30, 10], [10, 10]]
FEATURE = {
    "type": "Feature",
    "id": "PathAnnotationObject",
    "geometry": {"type": "Polygon", "coordinates": [SQUARE, HOLE]},
    "properties": {},
}


@pytest.mark.parametrize(
    "written",
    [
        FEATURE,
        [FEATURE],
        {"type": "FeatureCollection", "features": [FEATURE]},
        {**FEATURE, "geometry": {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE]]}},
        [
            FEATURE,
            {**FEATURE, "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10]]]}},
        ],  # overlaps, not closed
    ],
)
def test_what_qupath_writes_is_read(written: object, tmp_path: Path) -> None:
    path = tmp_path / "drawn.geojson"
    path.write_text(json.dumps(written))
    expected = np.ones((4, 4), bool)
    expected[1:3, 1:3] = False
    assert (rasterise(read_geojson(path), (10.0, 10.0), 4, 4) == expected).all()


def test_what_is_written_is_what_qupath_reads() -> None:
    mask = np.ones((3, 4), bool)
    mask[1, 1] = False
    written = json.loads(geojson(mask, (10.5, 10.0)))
    assert written["type"] == "FeatureCollection"
    (feature,) = written["features"]
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"]["name"] == "Tissue"
    outline, hole = feature["geometry"]["coordinates"]
    assert outline[0] == outline[-1]
    assert sorted(map(tuple, outline[1:])) == [(0, 0), (0, 30), (42, 0), (42, 30)]
    assert sorted(map(tuple, hole[1:])) == [(10.5, 10), (10.5, 20), (21, 10), (21, 20)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "expected GeoJSON with Polygon or MultiPolygon features"),
        ("{}", "expected GeoJSON"),
        ("[1]", "expected GeoJSON"),
        (json.dumps({**FEATURE, "geometry": {"type": "Point", "coordinates": [1, 2]}}), "a Point, which has no area"),
        (json.dumps({**FEATURE, "geometry": {"type": "Polygon", "coordinates": [[[1, "x"]]]}}), "expected GeoJSON"),
        (json.dumps({**FEATURE, "geometry": {"type": "Polygon", "coordinates": [[[]]]}}), "a coordinate that is no pair of numbers"),
        (json.dumps({**FEATURE, "geometry": {"type": "Polygon", "coordinates": [[[1], [2]]]}}), "a coordinate that is no pair of numbers"),
        (json.dumps({**FEATURE, "geometry": {"type": "Polygon", "coordinates": [[1, 2], [3, 4]]}}), "expected GeoJSON"),
        (
            json.dumps({**FEATURE, "geometry": {"type": "Polygon", "coordinates": [[[1, float("nan")]]]}}),
            "a coordinate that is no pair of numbers",
        ),
    ],
)
def test_what_is_no_mask_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "drawn.geojson"
    path.write_text(text)
    with pytest.raises(SlideError, match=message):
        read_geojson(path)


def test_a_mask_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"absent.geojson: No such file"):
        read_geojson(tmp_path / "absent.geojson")


def test_an_empty_mask_has_no_polygons_and_a_drawing_off_the_slide_no_pixels(tmp_path: Path) -> None:
    assert json.loads(geojson(np.zeros((3, 3), bool), (1.0, 1.0)))["features"] == []
    far = [[np.array([[-50.0, -50], [-10, -50], [-10, -10]])], [np.array([[500.0, 500], [600, 500], [600, 600]])]]
    assert not rasterise(far, (10.0, 10.0), 4, 4).any()
    around = [[np.array([[-50.0, -50], [500, -50], [500, 500], [-50, 500]])]]
    assert rasterise(around, (10.0, 10.0), 4, 4).all()


@pytest.mark.parametrize(("kind", "coordinates"), [("Polygon", []), ("Polygon", [[]]), ("MultiPolygon", []), ("MultiPolygon", [[[]], []])])
def test_an_annotation_without_corners_is_no_tissue(kind: str, coordinates: list[object], tmp_path: Path) -> None:
    (tmp_path / "m.geojson").write_text(json.dumps({**FEATURE, "geometry": {"type": kind, "coordinates": coordinates}}))
    assert read_geojson(tmp_path / "m.geojson") == []
    assert not rasterise([], (10.0, 10.0), 3, 4).any()
