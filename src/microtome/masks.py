"""Tissue masks as GeoJSON that QuPath opens, corrects and gives back.

Coordinates are level-0 pixels, origin at the slide's top left. A mask is a bool array [rows, columns] whose pixels are `pixel_px0` =
(width, height) level-0 pixels wide and high. Writing a mask and reading it back at the same pixel size gives the same mask.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microtome.slides import SlideError

Mask = NDArray[np.bool_]
Ring = NDArray[np.float64]  # [corners, 2]: x, y; not closed
Polygon = list[Ring]  # the outline, then its holes

TISSUE = {"objectType": "annotation", "classification": {"name": "Tissue", "color": [0, 160, 80]}}
DECIMALS = 2  # of a level-0 pixel


def polygons(mask: Mask) -> list[Polygon]:
    """The outlines of a mask's connected parts (diagonals do not connect), along pixel edges, each with its holes, in mask pixels."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    parts: dict[int, Polygon] = {}
    for ring in _rings(mask):
        row, column = _pixel_right_of(ring)
        outline_and_holes = parts.setdefault(int(labels[row, column]), [])
        outline_and_holes.insert(0 if _is_outline(ring) else len(outline_and_holes), ring)
    return list(parts.values())


def _rings(mask: Mask) -> Iterator[Ring]:
    """Closed walks along the edges of `mask` with true pixels on the right hand; corners only.

    An edge is named by where it starts and its direction (0 east, 1 south, 2 west, 3 north); at a corner where two parts
    touch the walk turns right, and so stays with its part.
    """
    ahead = _edges(mask)
    steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
    while ahead:
        x, y, direction = start = next(iter(ahead))
        corners = []
        while True:
            del ahead[x, y, direction]
            x, y = x + steps[direction][0], y + steps[direction][1]
            turns = ((direction + 1) % 4, direction, (direction - 1) % 4)
            turned = next((turn for turn in turns if (x, y, turn) in ahead or (x, y, turn) == start), direction)
            if turned != direction:
                corners.append((x, y))
            direction = turned
            if (x, y, direction) == start:
                break
        yield np.array(corners, float)


def _edges(mask: Mask) -> dict[tuple[int, int, int], None]:
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    starts = (  # direction, true pixels without a neighbour on that side, where the edge along that side starts
        (0, inside & ~padded[:-2, 1:-1], (0, 0)),
        (1, inside & ~padded[1:-1, 2:], (1, 0)),
        (2, inside & ~padded[2:, 1:-1], (1, 1)),
        (3, inside & ~padded[1:-1, :-2], (0, 1)),
    )
    edges = {}
    for direction, bare, (right, down) in starts:
        rows, columns = np.nonzero(bare)
        edges.update(dict.fromkeys(zip((columns + right).tolist(), (rows + down).tolist(), [direction] * len(rows), strict=True)))
    return edges


def _pixel_right_of(ring: Ring) -> tuple[int, int]:
    """(row, column) of the true pixel beside the ring's first edge."""
    (x0, y0), (x1, y1) = ring[0], ring[1]
    dx, dy = np.sign(x1 - x0), np.sign(y1 - y0)
    return int(y0 + (dy - 1) / 2 if dy else y0 + (dx - 1) / 2), int(x0 + (dx - 1) / 2 if dx else x0 - (dy + 1) / 2)


def _is_outline(ring: Ring) -> bool:
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) > 0  # twice the signed area; y points down


def geojson(mask: Mask, pixel_px0: tuple[float, float]) -> str:
    """The mask as the text of a FeatureCollection: an annotation of class Tissue for each connected part, in level-0 pixels."""
    features = []
    for polygon in polygons(mask):
        rings = [np.round(np.vstack([ring, ring[:1]]) * pixel_px0, DECIMALS).tolist() for ring in polygon]
        features.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": rings}, "properties": TISSUE})
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


def read_geojson(path: Path) -> list[Polygon]:
    """The polygons of a GeoJSON file, drawn by hand or written by `geojson`, in level-0 pixels.

    A FeatureCollection, a list of features and a single feature are read, as QuPath writes them all; every Polygon and MultiPolygon
    counts as tissue, whatever its class.

    Raises:
        SlideError: no such file, no GeoJSON, or a geometry that has no area.
    """
    try:
        found = json.loads(path.read_text())
        features = found if isinstance(found, list) else found.get("features", [found])
        return [polygon for feature in features for polygon in _polygons_of(feature["geometry"])]
    except OSError as error:
        raise SlideError(f"mask {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise SlideError(f"mask {path}: expected GeoJSON with Polygon or MultiPolygon features, found {error!r}") from error


def _polygons_of(geometry: dict[str, Any]) -> list[Polygon]:
    if geometry["type"] not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"a {geometry['type']}, which has no area")
    coordinates = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    found = [[np.asarray(ring, float)[:, :2] for ring in rings if len(ring)] for rings in coordinates]
    if not all(ring.shape[1] == 2 and np.isfinite(ring).all() for rings in found for ring in rings):
        raise ValueError("a coordinate that is no pair of numbers")
    return [rings for rings in found if rings]


def rasterise(found: list[Polygon], pixel_px0: tuple[float, float], rows: int, columns: int) -> Mask:
    """The mask of the polygons: a pixel is true where its centre lies in any polygon and in none of that polygon's holes."""
    mask = np.zeros((rows, columns), bool)
    for polygon in found:
        _add(mask, [ring / pixel_px0 for ring in polygon])
    return mask


def _add(mask: Mask, polygon: Polygon) -> None:
    """Set the pixels whose centre is inside by the even-odd rule: each ring edge that a row of centres crosses toggles all that follow."""
    start = np.vstack(polygon)
    end = np.vstack([np.roll(ring, -1, axis=0) for ring in polygon])
    top, bottom = np.clip(np.ceil(np.array([start[:, 1].min(), start[:, 1].max()]) - 0.5), 0, mask.shape[0]).astype(int)
    if bottom <= top:
        return
    toggles = np.zeros((bottom - top, mask.shape[1] + 1), np.int64)
    first = np.clip(np.ceil(np.minimum(start[:, 1], end[:, 1]) - 0.5), top, bottom).astype(int)  # rows whose centre the edge crosses
    last = np.clip(np.ceil(np.maximum(start[:, 1], end[:, 1]) - 0.5), top, bottom).astype(int)
    edge = np.repeat(np.arange(len(start)), last - first)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - (last - first), last - first) + first[edge]
    slope = (end - start)[edge]
    x = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope[:, 0] / slope[:, 1]
    np.add.at(toggles, (row - top, np.clip(np.ceil(x - 0.5), 0, mask.shape[1]).astype(int)), 1)
    mask[top:bottom] |= np.cumsum(toggles[:, :-1], axis=1) % 2 == 1
