"""CSV tables that people write: the slide table and the task tables. Nothing of a row is lost without a word."""

import csv
import io
import re
from pathlib import Path

import pandas as pd

from microtome.errors import UserError

# what other programs write for no value, and read as none
MISSING = frozenset({"NA", "N/A", "NULL", "NaN", "None", "n/a", "nan", "null", "<NA>", "#N/A"})
TOO_LONG = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")


def read_user_table(table: Path) -> pd.DataFrame:
    """The rows as stripped text ("" for no value), indexed by their line in the file; empty lines and those that begin with # are no rows.

    Raises:
        UserError: it is not UTF-8, has no line of column names or one twice, or a row has more values than there are columns.
    """
    try:
        text = re.sub("^#.*", "", table.read_text("utf-8-sig"), flags=re.MULTILINE)
        cells = pd.read_csv(io.StringIO(text), header=None, dtype="str", keep_default_na=False, skipinitialspace=True)
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: byte {error.start} is no UTF-8. Save it as UTF-8 (in Excel: CSV UTF-8).") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{table}: it is empty. Expected a line of column names, and rows below.") from None
    except pd.errors.ParserError as error:
        raise UserError(f"{table}: {_explained(str(error))}") from None
    cells = cells.set_axis(_lines(text, len(cells)), axis=0).apply(lambda column: column.str.strip())
    rows = cells.iloc[1:].set_axis(cells.iloc[0].tolist(), axis=1)
    return _named(table, rows[(rows != "").any(axis=1)])


def _explained(error: str) -> str:
    if found := TOO_LONG.search(error):
        return (
            f"line {found[2]} has {found[3]} values for {found[1]} columns: quote a value with a comma in it, or take out a comma too many."
        )
    return error


def _lines(text: str, rows: int) -> list[int]:
    """The line in which each row ends: a quoted value may hold several."""
    lines = [number for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) == rows:
        return lines
    reader = csv.reader(io.StringIO(text))
    return [reader.line_num for row in reader if row]


def _named(table: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Without columns that have neither a name nor a value, as spreadsheets leave them."""
    unnamed = rows.columns == ""
    if (rows.loc[:, unnamed] != "").any(axis=None):
        raise UserError(f"{table}: a column with values has no name. Expected a name for each in the first line.")
    rows = rows.loc[:, ~unnamed]
    twice = sorted(set(rows.columns[rows.columns.duplicated()]))
    if twice:
        raise UserError(f"{table}: columns that occur more than once: {', '.join(twice)}. Keep one of each.")
    return rows
