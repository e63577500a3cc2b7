"""What the aggregators of a task looked at: which slides are shown, and the attention of their tiles.

Attention is the mean over the runs that have a slide on their validation side, and sums to 1 over its tiles; times their number it is 1 for
a tile that is looked at like any other. Places are level-0 pixels (`_px0`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from microtome.comparisons import aucs_on_the_same_slides
from microtome.errors import UserError
from microtome.slide_tiles import SlideTiles, locate

SHOWN = 4  # tiles most attended, and as many least


@dataclass(frozen=True)
class Attended:
    """A slide that is shown: `about` is its row of `chosen` and of the catalog, `times` the attention x tiles of its `tiles`, [tiles]."""

    about: Any
    tiles: SlideTiles
    times: NDArray[np.float64]

    def some(self, most: bool) -> NDArray[np.int64]:
        """The tiles that are shown, the most (or least) attended first; none is both."""
        order = np.argsort(-self.times, kind="stable")
        return order[:SHOWN] if most else order[SHOWN:][::-1][:SHOWN]


def best_encoder(predictions: list[Path]) -> str:
    """The encoder with the highest mean AUC over splits on the slides that all have: the first of the task's ranking."""
    aucs = aucs_on_the_same_slides(predictions)
    return str(aucs.groupby("encoder", sort=False)["auc"].mean().idxmax())


def chosen(predictions: pd.DataFrame, count: int, named: tuple[str, ...]) -> pd.DataFrame:
    """A row a slide that is shown: slide, target, why, probability (of its own class, mean over its runs).

    Raises:
        UserError: a named slide is on no validation side.
    """
    own = np.array([getattr(row, f"probability_{row.target}") for row in predictions.itertuples()])
    means = predictions.assign(probability=own).groupby(["target", "slide"])["probability"].mean().reset_index()
    found = []
    for _, of_class in means.sort_values(["probability", "slide"], ascending=[False, True]).groupby("target"):
        best, worst = of_class.iloc[:count], of_class.iloc[count:].iloc[::-1][:count]
        found += [best.assign(why="best"), worst.assign(why="worst")]
    shown = pd.concat(found)
    unknown = [slide for slide in named if slide not in set(means["slide"])]
    if unknown:
        raise UserError(f"figures.attention_named: found {', '.join(unknown)}, expected slides of the task that a split validates.")
    more = means[means["slide"].isin(named) & ~means["slide"].isin(shown["slide"])]
    return pd.concat([shown, more.assign(why="named")], ignore_index=True)


def with_tiles(row: Any, attention: pd.DataFrame, tiles: Path) -> Attended:
    """Join a slide with its tiles.

    Raises:
        UserError: attention on another number of tiles than the slide has.
    """
    where, weights = locate(row, tiles), attention.sort_values("tile")["attention"].to_numpy(np.float64)
    if len(weights) != len(where):
        raise UserError(f"Slide {row.slide}: expected attention on its {len(where)} tiles, found {len(weights)}. Run `gma` again.")
    return Attended(row, where, weights * len(where))


def drawn(slides: list[Attended]) -> pd.DataFrame:
    """What is drawn: a row a tile of the slides shown."""
    parts = []
    for slide in slides:
        part = pd.DataFrame(slide.tiles.coords_px0, columns=["x_px0", "y_px0"]).assign(times=slide.times, shown="")
        for most, name in ((False, "least"), (True, "most")):
            part.loc[slide.some(most), "shown"] = name
        about = {name: getattr(slide.about, name) for name in ("slide", "target", "why", "probability", "runs")}
        parts.append(part.rename_axis("tile").reset_index().assign(**about))
    columns = ["slide", "target", "why", "probability", "runs", "tile", "x_px0", "y_px0", "times", "shown"]
    return pd.concat(parts)[columns].rename(columns={"times": "attention_times_tiles"})
