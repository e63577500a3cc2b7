"""One slide in all schedules: in which pseudo-epochs it is, with how many tiles, or why it is in none.

python -m microtome.schedule_explain --slide S1 --quota results/schedule/quota/slides.parquet --catalog results/catalog/slides.parquet
"""

from pathlib import Path

import pandas as pd

from microtome.command_line import run
from microtome.errors import UserError


def explanation(slide: str, visits: pd.DataFrame, entry: pd.DataFrame) -> str:
    """What there is to say of `slide`: `visits` are its rows of the quota, `entry` its row of the catalog (none: unknown).

    Raises:
        UserError: neither has it.
    """
    if visits.empty and entry.empty:
        raise UserError(f"slide {slide}: not in the catalog. Expected an id of the slide table (column slide), whole and as it is written.")
    if visits.empty:
        return f"Slide {slide} is in no schedule: {_reason(entry.iloc[0])}."
    tiles, drawn = int(visits["slide_tiles"].iloc[0]), int(visits["tiles"].sum())
    least, more = divmod(drawn, tiles)
    how_often = f"{tiles - more} of its tiles {least} times, {more} {least + 1} times"
    listed = visits[["pseudo_epoch", "tiles", "before"]].rename(columns={"before": "tiles before"}).to_string(index=False)
    epochs = f"{len(visits)} pseudo-epoch{'s' * (len(visits) != 1)}"
    heading = f"Slide {slide} ({visits['organ'].iloc[0]}, {tiles} tiles) is in {epochs} with {drawn} tiles: {how_often}."
    return f"{heading}\n{listed}"


def _reason(entry: "pd.Series[str]") -> str:
    if entry["status"] != "ok":
        return f"it is {entry['status']}, {entry['reason'] or 'without a reason'} (stage {entry['stage']})"
    if not entry["pretrain"]:
        return "`pretrain` is false in the slide table"
    return "its patient or case is in a task of schedule.exclude_tasks, or it came after the schedule was made (raise schedule.version)"


def schedule_explain(slide: str, quota: Path, catalog: Path) -> None:
    """Print in which pseudo-epochs a slide is, with how many tiles, or why it is in none."""
    for path in (quota, catalog):
        if not path.is_file():
            raise UserError(f"{path}: no such file. `snakemake {path}` makes it.")
    visits = pd.read_parquet(quota, filters=[("slide", "==", slide)])
    print(explanation(slide, visits, pd.read_parquet(catalog, filters=[("slide", "==", slide)])))


if __name__ == "__main__":
    run(schedule_explain)
