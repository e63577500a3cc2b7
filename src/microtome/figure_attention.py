"""Where the aggregators of a task look: maps of attention over slides, with the tiles they look at most and least.

Of all encoders (a run stands for itself with its last checkpoint) that with the highest mean AUC is shown; which slides, says
`attended.chosen`. Every slide has the same scale of colours. The PNG is one sheet, for a screen; the PDF has as many pages as keep each
within a journal's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from microtome.atomic import atomic_path, write_text
from microtome.attended import SHOWN, Attended, best_encoder, chosen, drawn, with_tiles
from microtome.command_line import run
from microtome.figure_style import DPI, PAGE_MM, TWO_COLUMNS_MM, style
from microtome.settings import AttentionSettings
from microtome.slide_map import Part, outline, painted, part_of, picture, scale_bar, through
from microtome.slide_pixels import SlideFile, tile_pixels
from microtome.slides import Rgb8, SlideError
from microtome.tile_sheet import GAP_PX, LINE_PX, axes_at, enlargement, fitted, frame, page, put, write

ACROSS = int(SHOWN**0.5)  # tiles are shown in squares
FRAME_PX = 4
GONE = 230  # grey of a tile that cannot be shown
MOST, LEAST = "#D55E00", "#0072B2"  # of figure_style.COLOURS
COLOURS = "viridis"  # perceptually uniform, and read by the colour-blind
PAGE_PX = TWO_COLUMNS_MM / 25.4 * DPI
HEAD_PX, FOOT_PX = 3 * LINE_PX, 3 * LINE_PX
Slide = TypeVar("Slide")
WHY = {"best": "predicted best of its class", "worst": "predicted worst of its class", "named": "named"}


def scale_of(slides: list[Attended]) -> LogNorm:
    """One scale for all slides, symmetrical about 1, to the next power of two, and at least from 1/2 to 2."""
    highest = max(float(slide.times.max()) for slide in slides)
    end = 2.0 ** max(1, int(np.ceil(np.log2(highest) - 1e-9)))
    return LogNorm(1 / end, end, clip=True)


@dataclass(frozen=True)
class Seen:
    """What was read of a slide, once for all pages: a picture of its `part` (`gone`: why there is none, or ""), the tiles shown."""

    slide: Attended
    part: Part
    picture: Rgb8
    gone: str
    tiles: dict[int, Rgb8]


def look(slide: Attended) -> Seen:
    """Read what is shown of a slide."""
    about, tiles = slide.about, slide.tiles
    part = part_of(tiles.coords_px0, about.tile_px0, (about.width_px0, about.height_px0), Sheet(tiles.tile_px).map_px)
    shown = [tile for most in (True, False) for tile in slide.some(most).tolist()]
    return Seen(slide, part, *picture(Path(about.path), part), {tile: tile_image(slide, tile) for tile in shown})


def draw_slide(figure: Figure, seen: Seen, scale: LogNorm, top_px: int, map_px: int, factor: int) -> None:
    """One slide: picture, map, the tiles most and least attended."""
    slide, part, about, tiles = seen.slide, seen.part, seen.slide.about, seen.slide.tiles
    title = f"{about.slide}: class {about.target}, {WHY[about.why]}: probability of it {about.probability:.2f}, mean of {about.runs} runs"
    write(figure, fitted(title, PAGE_PX - 2 * GAP_PX), GAP_PX, top_px + LINE_PX - GAP_PX)
    colours = mpl.colormaps[COLOURS](scale(slide.times))[:, :3]
    below_px = top_px + LINE_PX + GAP_PX
    images: list[NDArray[Any]] = [seen.picture, painted(seen.picture, part, tiles.coords_px0, about.tile_px0, colours)]
    for number, image in enumerate(images):
        axes = put(figure, image, GAP_PX + number * (map_px + 2 * GAP_PX), below_px, 1)
        for most, colour in ((False, LEAST), (True, MOST)):
            outline(axes, part, tiles.coords_px0[slide.some(most)], about.tile_px0, colour)
        if number == 0:
            scale_bar(axes, part, about.mpp_px0)
        if number == 0 and seen.gone:
            axes.annotate("slide not there", (0.5, 0.5), xycoords="axes fraction", ha="center", color="0.4")
    draw_tiles(figure, seen, 2 * map_px + 6 * GAP_PX, below_px, factor)


def draw_tiles(figure: Figure, seen: Seen, left_px: int, top_px: int, factor: int) -> None:
    """The tiles most attended, and beside them the least, with attention x tiles under each."""
    slide = seen.slide
    side_px = factor * slide.tiles.tile_px
    step_px = side_px + 2 * FRAME_PX + GAP_PX
    for most, colour in ((True, MOST), (False, LEAST)):
        for place, tile in enumerate(slide.some(most).tolist()):
            left, top = left_px + FRAME_PX + place % ACROSS * step_px, top_px + place // ACROSS * (step_px + LINE_PX)
            frame(figure, (left, top, side_px, side_px), colour, FRAME_PX)
            put(figure, seen.tiles[tile], left, top, factor)
            write(figure, f"{slide.times[tile]:.3g}", left, top + side_px + LINE_PX - FRAME_PX, color="0.4")
        left_px += ACROSS * step_px + GAP_PX


def tile_image(slide: Attended, tile: int) -> Rgb8:
    """The pixels of a slide's tile; grey where it was not stored and the slide is gone, which stands beside."""
    file = SlideFile(Path(str(slide.about.path)), float(slide.about.tile_px0))
    try:
        return tile_pixels(slide.tiles, tile, file)
    except SlideError:
        return np.full((slide.tiles.tile_px, slide.tiles.tile_px, 3), GONE, np.uint8)


def colour_bar(figure: Figure, scale: LogNorm, left_px: int, top_px: int, wide_px: int) -> None:
    """The map's colours, as they are seen over tissue, in multiples of an equal share."""
    seen = ListedColormap(through(mpl.colormaps[COLOURS](np.arange(256))[:, :3], 1.0))
    bar = figure.colorbar(ScalarMappable(scale, seen), cax=axes_at(figure, left_px, top_px, wide_px, 20), orientation="horizontal")
    end = round(np.log2(scale.vmax or 2))
    powers = sorted({-end, -(end // 2), 0, end // 2, end})
    bar.set_ticks([2.0**power for power in powers], labels=[f"1/{2**-power}" if power < 0 else f"{2**power}" for power in powers])
    bar.ax.minorticks_off()
    bar.outline.set_linewidth(0.3)


@dataclass(frozen=True)
class Sheet:
    """How a sheet is laid out for tiles of `tile_px`: `factor` pixels for each of a tile's, maps of `map_px`, a slide every `row_px`."""

    tile_px: int

    @property
    def factor(self) -> int:
        """The largest enlargement with which the tiles take about half of the page."""
        return enlargement(2 * ACROSS * self.tile_px, 0.55 * PAGE_PX - self._gaps_px)

    @property
    def _gaps_px(self) -> int:
        return 2 * ACROSS * (2 * FRAME_PX + GAP_PX) + 2 * GAP_PX

    @property
    def tiles_px(self) -> int:
        """The width of a slide's tiles."""
        return 2 * ACROSS * self.factor * self.tile_px + self._gaps_px

    @property
    def map_px(self) -> int:
        """The side of the picture and of the map."""
        return max(300, int(PAGE_PX - self.tiles_px - 7 * GAP_PX) // 2)

    @property
    def row_px(self) -> int:
        """From one slide to the next."""
        tiles_px = ACROSS * (self.factor * self.tile_px + 2 * FRAME_PX + GAP_PX + LINE_PX)
        return 2 * LINE_PX + 2 * GAP_PX + max(self.map_px + LINE_PX, tiles_px)

    @property
    def most_slides(self) -> int:
        """As many as a journal's page takes."""
        return max(1, int((PAGE_MM / 25.4 * DPI - HEAD_PX - FOOT_PX) // self.row_px))


def draw(slides: list[Seen], title: str, scale: LogNorm) -> Figure:
    """A sheet: a row a slide."""
    sheet = Sheet(slides[0].slide.tiles.tile_px)
    map_px, tiles_px = sheet.map_px, sheet.tiles_px
    with style():
        figure = page(2 * map_px + tiles_px + 7 * GAP_PX, HEAD_PX + len(slides) * sheet.row_px + FOOT_PX)
        write(figure, title, GAP_PX, LINE_PX)
        second_px, tiles_at_px = GAP_PX + map_px + 2 * GAP_PX, 2 * map_px + 6 * GAP_PX
        for text, left_px in (("slide", GAP_PX), ("attention", second_px), ("most attended", tiles_at_px)):
            write(figure, text, left_px, 2 * LINE_PX + GAP_PX, color="0.4")
        write(figure, "least attended", tiles_at_px + tiles_px // 2, 2 * LINE_PX + GAP_PX, color="0.4")
        for number, slide in enumerate(slides):
            draw_slide(figure, slide, scale, HEAD_PX + number * sheet.row_px, map_px, sheet.factor)
        foot_px = HEAD_PX + len(slides) * sheet.row_px
        write(figure, "attention × number of tiles (1: an equal share)", second_px + map_px + 2 * GAP_PX, foot_px + 20)
        colour_bar(figure, scale, second_px, foot_px, map_px)
    return figure


def pages(slides: list[Slide], tile_px: int) -> list[list[Slide]]:
    """The slides in their order, spread evenly over as few pages as keep each within a journal's: of two classes one each."""
    count = -(-len(slides) // Sheet(tile_px).most_slides)
    size = -(-len(slides) // count)
    return [slides[first : first + size] for first in range(0, len(slides), size)]


def figure_attention(
    predictions: list[Path], catalog: Path, tiles: Path, pdf: Path, png: Path, csv: Path, settings: AttentionSettings
) -> None:
    """Draw where the aggregators of the task of `predictions` look; attention lies beside each file of predictions."""
    encoder = best_encoder(predictions)
    folder = next(path.parent for path in predictions if path.parent.name == encoder)
    shown = chosen(pd.read_parquet(folder / "predictions.parquet"), settings.slides, settings.named)
    attention = pd.read_parquet(folder / "attention.parquet", filters=[("slide", "in", shown["slide"].tolist())])
    rows = shown.merge(attention.groupby("slide")["runs"].first().reset_index(), on="slide").merge(pd.read_parquet(catalog), on="slide")
    slides = [with_tiles(row, attention[attention["slide"] == row.slide], tiles) for row in rows.itertuples()]
    title = f"{folder.parent.name}: gated attention on {settings.labels.get(encoder, encoder)}, the best encoder by AUC"
    scale, seen = scale_of(slides), [look(slide) for slide in slides]
    with style(), atomic_path(pdf) as part, PdfPages(part, metadata={"CreationDate": None}) as file:
        for some in pages(seen, slides[0].tiles.tile_px):
            file.savefig(draw(some, title, scale))
    with style(), atomic_path(png) as part:
        draw(seen, title, scale).savefig(part, format="png", dpi=DPI)
    for each in seen:
        if each.gone:
            print(f"{each.slide.about.slide}: no picture: {each.gone}")
    write_text(csv, drawn(slides).to_csv(index=False, float_format="%.6g"))


if __name__ == "__main__":
    run(figure_attention)
