"""Tables as people and spreadsheets write them: read whole, or refused with the line."""

from pathlib import Path

import pandas as pd
import pytest

from microtome.errors import UserError
from microtome.user_table import read_user_table


def read(folder: Path, text: str | bytes) -> pd.DataFrame:
    (folder / "t.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return read_user_table(folder / "t.csv")


def test_values_and_the_lines_they_stand_in(tmp_path: Path) -> None:
    found = read(tmp_path, '# a comment\nslide, origin ,n\r\n\na, "Berlin, Mitte" ,1\n#b,x,2\nc,Hospital #2,\nd\n')
    assert found.to_dict("index") == {
        4: {"slide": "a", "origin": "Berlin, Mitte", "n": "1"},
        6: {"slide": "c", "origin": "Hospital #2", "n": ""},
        7: {"slide": "d", "origin": "", "n": ""},
    }
    assert set(map(str, found.dtypes)) == {"str"}


def test_what_spreadsheets_add_is_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, "\ufeffslide,target,,\na,1,,\n,,,\n")
    assert found.to_dict("index") == {2: {"slide": "a", "target": "1"}}
    assert read(tmp_path, "slide,target\n").columns.tolist() == ["slide", "target"]
    assert read(tmp_path, 'slide,note\na,"two\nlines"\nb,\n').index.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv: it is empty. Expected a line of column names"),
        ("# nothing\n\n", "it is empty"),
        ("slide,organ\na,lung\nb,skin, left\n", "line 3 has 3 values for 2 columns: quote a value with a comma in it"),
        ("slide,organ\nb,skin,\n", "line 2 has 3 values for 2 columns"),
        ("slide,\na,1\n", "a column with values has no name"),
        ("slide,a,a\nx,1,2\n", "columns that occur more than once: a."),
        ("slide,organ\na,Z\u00fcrich\n".encode("latin-1"), "byte 15 is no UTF-8. Save it as UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read_whole_is_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
