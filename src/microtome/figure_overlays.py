"""Slides as the tissue step sees them: overlays of a sample, with the tissue outlined and the rest under a veil.

The sample is drawn at random from the seed; slides without tiles make up at most a quarter of it, so that what went wrong is seen beside
what went right. A slide that could not be read has its reason instead of a picture.
"""

from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.figure_style import TWO_COLUMNS_MM, hide_unused, new_figure, save, style

SLIDES, COLUMNS = 24, 6
CELL_MM = 34.0
PICTURE_PX = 360  # the longest side: about 300 dpi at the width of a cell
NAME_LETTERS, REASON_LETTERS, REASON_LINES = 20, 22, 8


def sample(catalog: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Up to `SLIDES` slides of catalog/slides.parquet that were not excluded: slide, shard, status, reason; those with tiles first."""
    random = np.random.default_rng(seed)
    tried = catalog[catalog["status"] != "excluded"].sort_values("slide")
    ok, other = tried[tried["status"] == "ok"], tried[tried["status"] != "ok"]
    others = min(len(other), max(SLIDES // 4, SLIDES - len(ok)))
    drawn = [random.choice(len(rows), size, replace=False) for rows, size in ((ok, min(len(ok), SLIDES - others)), (other, others))]
    parts = [rows.iloc[np.sort(places)] for rows, places in zip((ok, other), drawn, strict=True)]
    return pd.concat(parts)[["slide", "shard", "status", "reason"]].reset_index(drop=True)


def draw_slide(panel: Axes, row: pd.Series, overlay: Path) -> None:
    """One slide: its overlay, or why there is none."""
    name = str(row["slide"])
    panel.set_title(name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 1]}…", fontsize=6.5, pad=2)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
    panel.set_anchor("N")  # names of a row stand on one line
    if overlay.is_file():
        with Image.open(overlay) as picture:
            picture.thumbnail((PICTURE_PX, PICTURE_PX))
            panel.imshow(np.asarray(picture.convert("RGB")))
    if row["status"] != "ok":
        note = fill(f"{row['status']}: {row['reason']}", REASON_LETTERS, max_lines=REASON_LINES, placeholder=" …")
        panel.text(0.5, 0.5, note, transform=panel.transAxes, ha="center", va="center", fontsize=6.5, color="#B00000")


def draw(slides: pd.DataFrame, tissue: Path) -> Figure:
    """The figure of the rows of `sample`; `tissue`: the folder results/tissue."""
    columns = min(COLUMNS, max(1, len(slides)))
    rows = max(1, -(-len(slides) // columns))
    with style():
        figure = new_figure(TWO_COLUMNS_MM * columns / COLUMNS, CELL_MM * rows)
        panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for panel, (_, row) in zip(panels, slides.iterrows(), strict=False):
            draw_slide(panel, row, tissue / str(row["shard"]) / f"{row['slide']}.jpg")
        hide_unused(panels, len(slides))
    return figure


def figure_overlays(catalog: Path, tissue: Path, pdf: Path, png: Path, csv: Path, seed: int) -> None:
    """Draw the overlays of a sample of slides."""
    slides = sample(pd.read_parquet(catalog), seed)
    save(draw(slides, tissue), pdf, png)
    write_text(csv, slides.to_csv(index=False))


if __name__ == "__main__":
    run(figure_overlays)
