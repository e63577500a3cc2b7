"""Pages that show tiles as they are: every pixel of a tile is drawn as whole pixels of the page, and none is smoothed.

Places on a page are pixels (`_px`) from its top left corner, `DPI` of them an inch. In the PNG a tile's pixels have their own values;
the PDF holds the tiles in their own size.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from microtome.figure_style import DPI, STYLE

GAP_PX = 8  # between tiles
LINE_PX = 36  # from one line of text to the next
TEXT_PT = 7.0
HAIRLINE = "0.7"  # around tiles, of which some are white
ROUNDING_PX = 1e-6  # a page of 1000.9999999 px would have 1000


def page(width_px: int, height_px: int) -> Figure:
    """An empty page."""
    return Figure(figsize=((width_px + ROUNDING_PX) / DPI, (height_px + ROUNDING_PX) / DPI), dpi=DPI)


def axes_at(figure: Figure, left_px: float, top_px: float, wide_px: float, high_px: float) -> Axes:
    """Axes that fill a box of the page."""
    width_px, height_px = figure.bbox.size
    return figure.add_axes((left_px / width_px, 1 - (top_px + high_px) / height_px, wide_px / width_px, high_px / height_px))


def put(figure: Figure, image: NDArray[Any], left_px: float, top_px: float, factor: int) -> Axes:
    """Draw `image` ([h, w, 3], uint8 or 0..1) with `factor` x `factor` pixels of the page for each of its own, in a hairline.

    The axes returned are in the image's pixels.
    """
    high_px, wide_px = factor * image.shape[0], factor * image.shape[1]
    axes = axes_at(figure, left_px, top_px, wide_px, high_px)
    axes.set_axis_off()
    axes.imshow(image, interpolation="none", aspect="auto")
    frame(figure, (left_px, top_px, wide_px, high_px), HAIRLINE, 1)
    return axes


def frame(figure: Figure, box_px: tuple[float, float, float, float], colour: str, line_px: int) -> None:
    """A frame around the box (left, top, width, height). It lies under what is drawn in the box, and takes none of its pixels."""
    width_px, height_px = figure.bbox.size
    wide, high = box_px[2] + 2 * line_px, box_px[3] + 2 * line_px
    corner = (box_px[0] - line_px) / width_px, 1 - (box_px[1] - line_px + high) / height_px
    look: dict[str, Any] = {"facecolor": colour, "edgecolor": "none", "antialiased": False, "zorder": -line_px}
    figure.add_artist(Rectangle(corner, wide / width_px, high / height_px, transform=figure.transFigure, **look))


def write(figure: Figure, text: str, left_px: float, baseline_px: float, **look: Any) -> None:
    """A line of text that begins at (`left_px`, `baseline_px`), or is centred there with `ha="center"`."""
    width_px, height_px = figure.bbox.size
    figure.text(left_px / width_px, 1 - baseline_px / height_px, text, **{"fontsize": TEXT_PT, "va": "baseline", **look})


def enlargement(wide_px: float, limit_px: float) -> int:
    """The largest whole factor that makes `wide_px` at most `limit_px`, or 1."""
    return max(1, int(limit_px // wide_px))


def fitted(text: str, wide_px: float) -> str:
    """The text, cut off with an ellipsis where it would be wider."""
    if text_px([text]) <= wide_px:
        return text
    shorter = (f"{text[:length].rstrip()}…" for length in range(len(text) - 1, 0, -1))
    return next((short for short in shorter if text_px([short]) <= wide_px), "…")


def text_px(lines: Sequence[str]) -> int:
    """The width of the longest line."""
    font = FontProperties(family=str(STYLE["font.family"]), size=TEXT_PT)
    return max((round(TextPath((0, 0), line, prop=font).get_extents().width * DPI / 72) for line in lines if line.strip()), default=0)
