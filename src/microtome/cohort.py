"""The cohort: which slides of the user's table are used, in which shard each one lives, and how many fell out and why.

The same functions are used when the Snakefile is parsed (to know the shards and their digests) and by the job that writes
`cohort/slides.parquet`. Nothing here opens a slide: a path that is not there becomes a failed row of `tissue`.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from microtome.atomic import atomic_path, write_text
from microtome.command_line import run
from microtome.config import Cohort
from microtome.digests import short_digest
from microtome.errors import UserError
from microtome.ever_named import names_noted
from microtome.settings import CohortSettings
from microtome.user_table import MISSING, read_user_table

REQUIRED = ["slide", "path", "patient", "organ"]
OPTIONAL = ["case", "stain", "origin", "scanner", "mpp", "mask", "pretrain"]
COLUMNS = [*REQUIRED, *OPTIONAL]
SLIDE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}")
TRUE = {"true", "1", "yes", ""}
FALSE = {"false", "0", "no"}
SHOWN = 5  # offending rows that an error names


def read_slides(table: Path) -> pd.DataFrame:
    """Read and check a slide table: all of `COLUMNS`, strings ("" or NaN is null), `mpp` float64 (µm/px or NaN), `pretrain` bool.

    Raises:
        UserError: no such file; as `read_user_table`; a column missing or unknown; an id that is missing, doubled or no file name; a
            path, patient or organ that is missing; a bad `mpp` or `pretrain`.
    """
    if not table.is_file():
        raise UserError(f"{table}: no such slide table. Expected a CSV with the columns {', '.join(REQUIRED)} [{', '.join(OPTIONAL)}].")
    slides = read_user_table(table)
    _check_columns(table, list(slides.columns))
    slides = slides.reindex(columns=COLUMNS, fill_value="")
    for column in REQUIRED:
        _refuse(table, slides, slides[column].isin(MISSING | {""}), f"has no {column}")
    _refuse(
        table, slides, ~slides["slide"].str.fullmatch(SLIDE_ID.pattern), "is no file name (letters, digits, '_', '-', '.'; at most 200)"
    )
    _refuse(table, slides, slides["slide"].duplicated(keep=False), "occurs more than once")
    return _typed(table, slides).sort_values("slide", ignore_index=True)


def _check_columns(table: Path, columns: list[str]) -> None:
    missing, unknown = [c for c in REQUIRED if c not in columns], [c for c in columns if c not in COLUMNS]
    if missing or unknown:
        wrong = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(unknown)}"] * bool(unknown)
        raise UserError(f"{table}: {'; '.join(wrong)}. Expected the columns {', '.join(REQUIRED)} and at will {', '.join(OPTIONAL)}.")


def _refuse(table: Path, slides: pd.DataFrame, wrong: "pd.Series[bool]", what: str) -> None:
    if wrong.any():
        rows = [f"line {row} ({slides['slide'][row]!r})" for row in slides.index[wrong][:SHOWN]]
        more = f" and {int(wrong.sum()) - SHOWN} more" if wrong.sum() > SHOWN else ""
        raise UserError(f"{table}: a slide {what}: {', '.join(rows)}{more}. Mend the table and run again.")


def _typed(table: Path, slides: pd.DataFrame) -> pd.DataFrame:
    mpp = pd.to_numeric(slides["mpp"].replace("", None), errors="coerce").astype("float64")
    _refuse(table, slides, (mpp.isna() & (slides["mpp"] != "")) | (mpp <= 0), "has an mpp that is no positive number")
    pretrain = slides["pretrain"].str.lower()
    _refuse(table, slides, ~pretrain.isin(TRUE | FALSE), "has a pretrain that is neither true nor false")
    strings = slides.drop(columns=["mpp", "pretrain"]).replace("", None)
    return strings.assign(mpp=mpp, pretrain=~pretrain.isin(FALSE))[COLUMNS]


def shard_of(slide: str, shards: int) -> str:
    """The shard of a slide: the first 8 hexadecimal digits of the SHA-256 of its id, modulo `shards`, zero-padded."""
    return shard_name(int(short_digest(slide)[:8], 16) % shards, shards)


def shard_name(number: int, shards: int) -> str:
    """The name of shard `number` of `shards`, padded so that names sort."""
    return f"{number:0{len(str(shards - 1))}d}"


def select(slides: pd.DataFrame, settings: Cohort) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The slides that are used, those that are not, and the attrition.

    Returns:
        used: `COLUMNS` + shard, sorted by slide. excluded: slide, patient, reason. attrition: step, slides, patients left.
    """
    stain_out = slides["stain"].notna() & ~slides["stain"].isin(settings.stains)
    patient_out = slides["patient"].isin(_excluded_patients(settings)) & ~stain_out
    used = slides[~stain_out & ~patient_out].reset_index(drop=True)
    steps = {"slide table": slides, f"stain is {' or '.join(settings.stains)}": slides[~stain_out], "patient not excluded": used}
    attrition = pd.DataFrame([{"step": step, "slides": len(left), "patients": left["patient"].nunique()} for step, left in steps.items()])
    reason = ("stain is " + slides["stain"].fillna("")).where(stain_out, "patient is excluded")
    excluded = slides.assign(reason=reason).loc[stain_out | patient_out, ["slide", "patient", "reason"]]
    return used.assign(shard=[shard_of(slide, settings.shards) for slide in used["slide"]]), excluded, attrition


def _excluded_patients(settings: Cohort) -> set[str]:
    path = settings.exclude_patients
    if path is None:
        return set()
    if not path.is_file():
        raise UserError(f"cohort.exclude_patients: {path} is no file. Expected a text file with one patient a line, or null.")
    return {line.strip() for line in path.read_text().splitlines() if line.strip()}


def digests(slides: pd.DataFrame, columns: Iterable[str]) -> dict[str, str]:
    """For each shard that has slides, a digest of its rows' `columns`: it changes when a job of that shard has something to do."""
    lines = slides["shard"].str.cat(slides[list(columns)].astype("string").fillna(""), sep="\x1f")
    return {str(shard): short_digest("\n".join(rows)) for shard, rows in lines.groupby(slides["shard"])}


def cohort(slides_table: Path, slides: Path, excluded: Path, attrition: Path, named: Path, settings: CohortSettings) -> None:
    """Write the slides that are used (parquet), those that are not, and how many fell out at each step.

    `named` keeps, from run to run, every slide that a table named, whether or not the run comes as far as the catalog.
    """
    table = read_slides(slides_table)
    used, out, steps = select(table, settings.cohort)
    if used.empty:
        raise UserError(f"{slides_table}: no slide is left after the stain and patient filters: {steps.to_dict('records')}.")
    write_text(excluded, out.to_csv(index=False))
    write_text(named, names_noted(table, named).to_csv(index=False))
    write_text(attrition, steps.to_csv(index=False))
    with atomic_path(slides) as part:
        used.to_parquet(part, index=False)


if __name__ == "__main__":
    run(cohort)
