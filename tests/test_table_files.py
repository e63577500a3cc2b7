"""A table's files, with names that LaTeX, Markdown and HTML would misread."""

import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from microtome.table_files import latex, write_table

NASTY = pd.DataFrame(
    {
        "a_b % & #": ["x_1 {y} $z^2 ~ \\", 'p|q <b> & "c"'],
        "count": [1_234_567, 2],
        "mean": [0.5, None],
        "whole": pd.array([1, None], "Int64"),
    }
)

RULES = {"\\toprule", "\\midrule", "\\bottomrule", "\\endfirsthead", "\\endhead", "\\endfoot", "\\endlastfoot"}


def assert_tex(text: str) -> None:
    """What a LaTeX run with booktabs would stop at: an unescaped special character, an open brace, a row of other length."""
    found = re.search(r"\\begin{(tabular|longtable)}{((?:[lr]|p{[^}]*})+)}\n(.*)\\end{\1}", text, re.DOTALL)
    assert found
    columns = len(re.findall(r"[lr]|p{[^}]*}", found.group(2)))
    lines = found.group(3).splitlines()
    assert {"\\toprule", "\\midrule", "\\bottomrule"} <= set(lines)
    rows = [line for line in lines if line not in RULES and not line.startswith("\\multicolumn")]
    assert rows
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}
    assert all(row.endswith("\\\\") for row in rows)
    assert not any(re.search(r"(?<!\\)[_%$#^~]", row) for row in rows)
    assert len(re.findall(r"(?<!\\){", text)) == len(re.findall(r"(?<!\\)}", text))


class Cells(HTMLParser):
    """The rows of a page's tables, as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.cell = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        elif self.cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.cell = False

    def handle_data(self, data: str) -> None:
        if self.cell:
            self.rows[-1][-1] += data


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_table(tmp_path / "odd", "A & B", NASTY)
    return tmp_path / "odd"


def test_long_tables_break_and_long_texts_are_paragraphs() -> None:
    table = pd.DataFrame({"a": ["word " * 20] * 60, "n": range(60), "b": ["x" * 51] * 60})
    assert_tex(latex(table))
    assert "\\begin{longtable}{p{0.30\\linewidth}rp{0.30\\linewidth}}" in latex(table)
    assert "% \\usepackage{longtable}" in latex(table)
    assert "\\begin{tabular}{p{0.30" in latex(table[:45])
    assert_tex(latex(table[:0]))


def test_latex_would_compile(files: Path) -> None:
    text = files.with_suffix(".tex").read_text()
    assert_tex(text)
    assert "a\\_b \\% \\& \\#" in text
    assert "1,234,567" in text
    assert "\\begin{tabular}{lrrr}" in text
    assert "textbf" not in text


def test_the_check_finds_what_latex_would() -> None:
    for bad in ("a_b", "50 %", "x & y", "{"):
        with pytest.raises(AssertionError):
            assert_tex(latex(pd.DataFrame({"name": ["GOOD"]})).replace("GOOD", bad))


def test_html_shows_the_text_and_fetches_nothing(files: Path) -> None:
    text = files.with_suffix(".html").read_text()
    assert Cells(text).rows == [list(NASTY.columns), [NASTY.iloc[0, 0], "1,234,567", "0.5", "1"], [NASTY.iloc[1, 0], "2", "", ""]]
    assert "<h1>A &amp; B</h1>" in text
    assert not re.search(r"https?:|src=", text)
    downloads = re.findall(r'download="([^"]*)" href="data:text/plain;base64,([^"]*)"', text)
    assert {name: b64decode(data) for name, data in downloads} == {
        "odd.csv": files.with_suffix(".csv").read_bytes(),
        "odd.tex": files.with_suffix(".tex").read_bytes(),
    }
    assert text.count("href=") == len(downloads)


def test_markdown_keeps_its_columns(files: Path) -> None:
    lines = files.with_suffix(".md").read_text().splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}
    assert " 1,234,567 |" in lines[2]


def test_csv_has_the_numbers(files: Path) -> None:
    assert pd.read_csv(files.with_suffix(".csv"))["count"].tolist() == [1_234_567, 2]


def test_an_empty_table_has_files_too(tmp_path: Path) -> None:
    write_table(tmp_path / "none", "None", pd.DataFrame(columns=["slide", "reason"]))
    assert pd.read_csv(tmp_path / "none.csv").empty
    assert Cells((tmp_path / "none.html").read_text()).rows == [["slide", "reason"]]


def test_a_note_stands_where_a_caption_is_taken_from(tmp_path: Path) -> None:
    write_table(tmp_path / "noted", "Noted", NASTY, note="Read this 100 %.")
    assert (tmp_path / "noted.md").read_text().endswith("|\n\nRead this 100 %.\n")
    assert (tmp_path / "noted.tex").read_text().startswith("% Read this 100 %.\n% ")
    assert_tex((tmp_path / "noted.tex").read_text())
    assert len(pd.read_csv(tmp_path / "noted.csv")) == len(NASTY)
