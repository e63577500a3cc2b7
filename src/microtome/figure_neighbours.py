"""What an encoder takes for alike: a few tiles of the sample that judges encoders, and the tiles of other patients nearest to each.

Nearest is by the cosine of the features. The queries follow from the seed alone, so that every encoder answers the same ones.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.errors import UserError
from microtome.feature_quality import judged_labels
from microtome.figure_style import DPI, TWO_COLUMNS_MM, save, style
from microtome.slide_pixels import SlideFile, tile_pixels
from microtome.slide_tiles import SlideTiles
from microtome.slides import Rgb8
from microtome.tile_sheet import GAP_PX, LINE_PX, enlargement, fitted, frame, page, put, write

QUERIES = 20  # stream of random numbers: the second number of a seed
FRAME_PX = 6
SAME, OTHER = "#0072B2", "#D55E00"  # of figure_style.COLOURS: the query's organ, and another, which the mark names, too
MARK = "≠ "


def queries(sample: pd.DataFrame, count: int, seed: int) -> list[int]:
    """The rows of `count` tiles, one an organ and round again, of the organs that more than one patient has (of any, where none has).

    Raises:
        UserError: the sample has one patient only, who has no neighbours.
    """
    if sample["patient"].nunique() < 2:
        raise UserError("Neighbours are tiles of other patients: found one patient in the sample, expected two or more.")
    rng = np.random.default_rng([seed, QUERIES])
    organs = judged_labels(sample["organ"], sample["patient"]) or sorted(sample["organ"].unique())
    rows = {organ: rng.permutation(np.flatnonzero(sample["organ"] == organ)).tolist() for organ in organs}
    order = rng.permutation(np.array(organs, dtype=object)).tolist()
    turns = range(max(len(of_organ) for of_organ in rows.values()))
    return [rows[organ][turn] for turn in turns for organ in order if turn < len(rows[organ])][:count]


def nearest(features: NDArray[Any], sample: pd.DataFrame, query: int, count: int) -> pd.DataFrame:
    """The `count` tiles of other patients nearest to tile `query`, the nearest first: row (in the sample), similarity (cosine)."""
    x = np.asarray(features, dtype=np.float32)
    norms = np.linalg.norm(x, axis=1).clip(min=np.finfo(np.float32).tiny)
    similarity = x @ x[query] / norms / norms[query]
    similarity[(sample["patient"] == sample["patient"].iloc[query]).to_numpy()] = -np.inf
    order = np.argsort(-similarity, kind="stable")[:count]
    order = order[np.isfinite(similarity[order])]
    return pd.DataFrame({"row": order, "similarity": similarity[order]})


def answers(features: NDArray[Any], sample: pd.DataFrame, asked: list[int], count: int) -> pd.DataFrame:
    """A row a picture: query (from 1), rank (0: the query itself), similarity, same_organ, and the sample's columns."""
    found = []
    for number, row in enumerate(asked, 1):
        near = nearest(features, sample, row, count)
        rows = pd.DataFrame({"row": [row, *near["row"]], "similarity": [1.0, *near["similarity"]]})
        of_sample = sample.iloc[rows["row"]].reset_index(drop=True)
        same = of_sample["organ"] == sample["organ"].iloc[row]
        found.append(pd.concat([rows.assign(query=number, rank=range(len(rows)), same_organ=same), of_sample], axis=1))
    return pd.concat(found, ignore_index=True)


def by_chance(sample: pd.DataFrame, asked: list[int]) -> float:
    """The share of tiles of the query's organ among those of other patients, mean over the queries."""
    shares = []
    for row in asked:
        others = sample[sample["patient"] != sample["patient"].iloc[row]]
        shares.append(float((others["organ"] == sample["organ"].iloc[row]).mean()))
    return float(np.mean(shares))


def draw(table: pd.DataFrame, images: list[NDArray[np.uint8]], title: str) -> Figure:
    """The page: a row a query, which stands at the left, and its neighbours, the nearest first. `images` are of the rows of `table`."""
    across, down, side_px = int(table["rank"].max()) + 1, int(table["query"].max()), images[0].shape[0]
    margin_px = 2 * FRAME_PX + GAP_PX
    factor = enlargement(across * side_px, TWO_COLUMNS_MM / 25.4 * DPI - (across + 1) * margin_px)
    wide_px, high_px = factor * side_px + margin_px, factor * side_px + margin_px + 2 * LINE_PX
    with style():
        figure = page(across * wide_px + 3 * GAP_PX, LINE_PX + GAP_PX + down * high_px)
        write(figure, title, GAP_PX, LINE_PX - GAP_PX)
        for row, image in zip(table.to_dict("records"), images, strict=True):
            apart_px = 3 * GAP_PX if row["rank"] else GAP_PX
            left_px, top_px = apart_px + FRAME_PX + row["rank"] * wide_px, LINE_PX + GAP_PX + FRAME_PX + (row["query"] - 1) * high_px
            if row["rank"]:
                frame(figure, (left_px, top_px, factor * side_px, factor * side_px), SAME if row["same_organ"] else OTHER, FRAME_PX)
            put(figure, image, left_px, top_px, factor)
            below_px = top_px + factor * side_px + FRAME_PX - GAP_PX
            organ = f"{'' if row['same_organ'] else MARK}{row['organ']}"
            write(figure, f"{row['similarity']:.5f}" if row["rank"] else "query", left_px, below_px + LINE_PX, color="0.4")
            write(figure, fitted(organ, factor * side_px), left_px, below_px + 2 * LINE_PX)
    return figure


def _image(row: "pd.Series[Any]", tiles: Path) -> Rgb8:
    place, tar = row[["x_px0", "y_px0"]].to_numpy(np.int64)[None], tiles / row["shard"] / f"{row['slide']}.tar"
    where = SlideTiles(row["slide"], tar, int(row["tile_px"]), place, np.array([row["offset_b"]]), np.array([row["size_b"]], np.int32))
    return tile_pixels(where, 0, SlideFile(Path(str(row["path"])), float(row["tile_px0"])))


def figure_neighbours(
    sample: Path, features: Path, tiles: Path, pdf: Path, png: Path, csv: Path, queries_shown: int, neighbours: int, seed: int, label: str
) -> None:
    """Draw the neighbours that the encoder called `label` finds by its `features` of the `sample`; `tiles` is the folder of the tars."""
    drawn = pd.read_parquet(sample)
    with h5py.File(features) as file:
        made = file["features"][:]
    if len(made) != len(drawn):
        expected = f"expected features of {len(drawn)} tiles, those of {sample}"
        raise UserError(f"{features}: {expected}, found {len(made)}. Remove it and run again.")
    asked = queries(drawn, queries_shown, seed)
    table = answers(made, drawn, asked, neighbours)
    found = table[table["rank"] > 0]
    of_organ = f"{found['same_organ'].sum()} of {len(found)} neighbours are of the query's organ"
    title = f"{label}: {of_organ}, {by_chance(drawn, asked) * len(found):.1f} by chance"
    images = [_image(row, tiles) for _, row in table.iterrows()]
    save(draw(table, images, title), pdf, png)
    shown = ["query", "rank", "slide", "tile", "organ", "patient", "x_px0", "y_px0", "similarity", "same_organ"]
    write_text(csv, table[shown].to_csv(index=False, float_format="%.6g"))


if __name__ == "__main__":
    run(figure_neighbours)
