"""What every figure must hold: texts that do not overlap, within the page, and the same bytes for the same numbers."""

from itertools import combinations
from pathlib import Path

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from microtome.figure_style import settle

APART_PT = 2.0  # about a blank of 6.5 pt


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is seen, and the box it takes."""
    settle(figure)
    unseen = {id(label) for axis in figure.findobj(Axis) for label in _beyond(axis)}
    seen = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and id(text) not in unseen]
    return [(text.get_text(), text.get_window_extent()) for text in seen]


def _beyond(axis: Axis) -> list[Text]:
    """Labels of ticks outside the axis's limits, or switched off, which matplotlib keeps but does not draw."""
    low, high = sorted(axis.get_view_interval())
    margin = 1e-6 * (high - low)
    labels = []
    for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
        inside = low - margin <= tick.get_loc() <= high + margin
        labels += [label for label in (tick.label1, tick.label2) if not inside or not label.get_visible()]
    return labels


def assert_readable(figure: Figure) -> None:
    """No text leaves the page, overlaps another, or stands beside it without a blank's width between."""
    boxes = texts(figure)
    assert len(boxes) > 4
    page = figure.bbox
    for text, box in boxes:
        beyond = max(page.x0 - box.x0, page.y0 - box.y0, box.x1 - page.x1, box.y1 - page.y1)
        assert beyond < 1, f"{text!r} leaves the page: {box}"
    for (one, first), (other, second) in combinations(boxes, 2):
        both = Bbox.intersection(first.padded(APART_PT / 72 * figure.dpi, 0), second)
        assert both is None or both.width * both.height < 1, f"{one!r} overlaps or nearly touches {other!r}"


def assert_saved(pdf: Path, png: Path) -> None:
    """Files of the right kind; fonts are embedded as outlines, and no time stands in them."""
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"/FontFile2" in pdf.read_bytes()  # TrueType, embedded
    assert b"/CreationDate" not in pdf.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
