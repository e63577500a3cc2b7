"""What separates in features: the sample's tiles on their first two principal components, coloured by organ, a panel an encoder.

Features are centred, not scaled; axes of a panel have one scale, and no unit. A run stands for itself with its last checkpoint, its null
before it.
"""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.figure_style import TWO_COLUMNS_MM, hide_unused, legend_below, new_figure, save, style
from microtome.runs import labelled
from microtome.settings import FiguresSettings

# Paul Tol 2021, "Colour schemes" (SRON/EPS/TN/09-002), muted: nine that the colour-blind tell apart, and grey.
ORGAN_COLOURS = ["#CC6677", "#332288", "#117733", "#88CCEE", "#DDCC77", "#882255", "#44AA99", "#999933", "#AA4499"]
OTHER, OTHER_COLOUR = "other", "#CCCCCC"
SHOWN = 5000  # points a panel: more would hide each other
PANELS_A_ROW = 4
PANEL_HEIGHT_MM = 50.0


def components(features: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components [n, 2] of features [n, d], and the shares of the variance that they explain."""
    x = np.asarray(features, dtype=np.float64)
    pca = PCA(2, svd_solver="covariance_eigh" if len(x) >= x.shape[1] else "full")  # both exact: a drawn one would differ by its seed
    return pca.fit_transform(x), np.nan_to_num(pca.explained_variance_ratio_)


def coloured_organs(sample: pd.DataFrame) -> list[str]:
    """The organs that have a colour of their own: those of most slides in the catalog, as many as there are colours."""
    organs = sample.drop_duplicates("organ").sort_values(["organ_slides", "organ"], ascending=[False, True])["organ"]
    return list(organs[: len(ORGAN_COLOURS)])


def drawn(sample: pd.DataFrame, features: list[Path], seed: int) -> pd.DataFrame:
    """What is drawn: encoder, slide, tile, organ, colour (the organ, or `other`), pc1, pc2, pc1_share, pc2_share (of the variance).

    Components are those of the whole sample; of a large one a part is drawn, the same tiles for each encoder, in a random order.
    """
    rows = np.random.default_rng([seed, len(sample)]).permutation(len(sample))[:SHOWN]
    organ = sample["organ"].where(sample["organ"].isin(coloured_organs(sample)), OTHER)
    tiles = sample[["slide", "tile", "organ"]].assign(colour=organ).iloc[rows]
    parts = []
    for path in features:
        with h5py.File(path) as file:
            scores, shares = components(file["features"][:])
        of_encoder = tiles.assign(pc1=scores[rows, 0], pc2=scores[rows, 1], pc1_share=shares[0], pc2_share=shares[1])
        parts.append(of_encoder.assign(encoder=path.parent.name))
    return pd.concat(parts, ignore_index=True)[["encoder", *parts[0].columns[:-1]]]


def draw_panel(panel: Axes, rows: pd.DataFrame, colours: dict[str, str]) -> None:
    """One encoder: `rows` has the rows of `drawn` of that encoder."""
    rows = rows.sort_values("colour", key=lambda colour: colour != OTHER, kind="stable")  # the grey ones lie beneath
    size = float(np.clip(4000 / len(rows), 1.5, 9))
    colour = rows["colour"].map(colours).tolist()
    panel.scatter(rows["pc1"], rows["pc2"], s=size, c=colour, linewidths=0, alpha=0.75, rasterized=True)
    panel.set_aspect("equal", adjustable="datalim")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_xlabel(f"PC 1 ({100 * rows['pc1_share'].iloc[0]:.0f}%)")
    panel.set_ylabel(f"PC 2 ({100 * rows['pc2_share'].iloc[0]:.0f}%)")


def draw(table: pd.DataFrame, organs: list[str], settings: FiguresSettings) -> Figure:
    """The figure of the rows of `drawn`; `organs` are those with a colour, in the order of the legend."""
    colours = dict(zip(organs, ORGAN_COLOURS, strict=False)) | {OTHER: OTHER_COLOUR}
    encoders = list(table["encoder"].unique())
    columns = min(PANELS_A_ROW, len(encoders))
    rows, width_mm = -(-len(encoders) // columns), TWO_COLUMNS_MM * max(2, columns) / PANELS_A_ROW
    shown = [name for name in colours if table["colour"].eq(name).any()]
    with style():
        figure = new_figure(width_mm, PANEL_HEIGHT_MM * rows + 14)
        panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for panel, encoder in zip(panels, encoders, strict=False):
            draw_panel(panel, table[table["encoder"] == encoder], colours)
            panel.set_title(labelled(encoder, settings.labels).replace(" (", "\n("))
        hide_unused(panels, len(encoders))
        handles = [Line2D([], [], linestyle="none", marker="o", markeredgewidth=0, color=colours[name]) for name in shown]
        others = table.loc[table["colour"] == OTHER, "organ"].nunique()
        legend_below(figure, handles, [f"{others} other organs" if name == OTHER else name for name in shown], width_mm)
    return figure


def figure_pca(sample: Path, features: list[Path], pdf: Path, png: Path, csv: Path, settings: FiguresSettings) -> None:
    """Draw the first two principal components of each encoder's features."""
    tiles = pd.read_parquet(sample)
    table = drawn(tiles, features, settings.seed)
    save(draw(table, coloured_organs(tiles), settings), pdf, png)
    write_text(csv, table.to_csv(index=False, float_format="%.5g"))


if __name__ == "__main__":
    run(figure_pca)
