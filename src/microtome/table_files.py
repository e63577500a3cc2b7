"""The files of a table: CSV for programs, Markdown, LaTeX (booktabs) for a paper, and an HTML page for the report.

CSV has the numbers under short names; the others show them: thousands separated, under names that say what is counted. All text is
escaped. Each file is written whole or not at all.
"""

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd

from microtome.atomic import write_text

PAGE = 45
LONG = 50
SHORT = 32  # letters that stay on one line: a mean with its interval
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 1.5em; max-width: 80em; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin: 1.8em 0 0.3em; } p { color: #555; margin: 0.6em 0; }
a { margin-right: 1em; }
table { border-collapse: collapse; border-top: 1.5px solid; border-bottom: 1.5px solid; }
th { border-bottom: 1px solid; vertical-align: bottom; } th, td { padding: 0.25em 0.9em; text-align: left; }
td { vertical-align: top; min-width: 8em; overflow-wrap: anywhere; }
.short { white-space: nowrap; min-width: 0; } .number { text-align: right; font-variant-numeric: tabular-nums; }
"""


Sections = Mapping[str, tuple[str, pd.DataFrame]]  # by heading: a line that says what it is, and the table


def write_table(
    stem: Path, title: str, table: pd.DataFrame, shown: pd.DataFrame | None = None, sections: Sections | None = None, note: str = ""
) -> None:
    """Write `stem`.csv with `table`, .md and .tex with `shown` (or the same table), .html with `sections` (or the table shown).

    A `note`, for the caption, stands under the Markdown and, as a comment, above the LaTeX.
    """
    shown = table if shown is None else shown
    noted = {"md": f"\n{note}\n" * bool(note), "tex": f"% {note}\n" * bool(note)}
    files = {"csv": table.to_csv(index=False), "md": markdown(shown) + noted["md"], "tex": noted["tex"] + latex(shown)}
    files["html"] = page(title, sections or {"": ("", shown)}, {f"{stem.name}.{kind}": files[kind] for kind in ("csv", "tex")})
    for kind, text in files.items():
        write_text(stem.with_name(f"{stem.name}.{kind}"), text)


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: whole numbers with thousands separated, nothing for what is missing."""
    return table.astype(object).map(lambda value: "" if pd.isna(value) else f"{value:,}" if isinstance(value, int) else str(value))


def _is_number(table: pd.DataFrame) -> list[bool]:
    return [pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) for kind in table.dtypes]


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown; numbers are aligned to the right."""
    escaped = cells(table).map(lambda text: text.replace("|", "\\|"))
    aligned = ["right" if number else "left" for number in _is_number(table)]
    return escaped.to_markdown(index=False, colalign=aligned, disable_numparse=True) + "\n"


def latex(table: pd.DataFrame) -> str:
    r"""A table as LaTeX that needs the package booktabs, to be \input into a table environment. No value is set in bold.

    Columns with long texts are paragraphs. A table of more than `PAGE` rows is a longtable, which needs that package and no environment.
    """
    text = cells(table)
    long = [bool((text[name].str.len() > LONG).any()) for name in text]
    paragraph = f"p{{{0.6 / max(1, sum(long)):.2f}\\linewidth}}"
    aligned = ["r" if number else paragraph if wide else "l" for number, wide in zip(_is_number(table), long, strict=True)]
    breaks = len(table) > PAGE
    needed = "% \\usepackage{booktabs}\n" + "% \\usepackage{longtable}\n" * breaks
    return needed + text.to_latex(index=False, escape=True, column_format="".join(aligned), longtable=breaks)


def page(title: str, tables: Sections, files: Mapping[str, str]) -> str:
    """An HTML page that fetches nothing: tables under their headings, each with a line that says what it is; `files` to download."""
    parts = [f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>']
    parts.append(f"<h1>{escape(title)}</h1>")
    for heading, (line, table) in tables.items():
        parts += [f"<h2>{escape(heading)}</h2>"] * bool(heading) + [f"<p>{escape(line)}</p>"] * bool(line) + [_html(table)]
    links = [
        f'<a download="{name}" href="data:text/plain;base64,{b64encode(text.encode()).decode()}">{name}</a>' for name, text in files.items()
    ]
    return "\n".join([*parts, f"<p>{' '.join(links)}</p>"]) + "\n</html>\n"


def _html(table: pd.DataFrame) -> str:
    numbers = ["number" if number else "" for number in _is_number(table)]

    def row(tag: str, texts: list[str]) -> str:
        looks = [f"{number} {'short' if len(text) <= SHORT else ''}".strip() for number, text in zip(numbers, texts, strict=True)]
        return "<tr>" + "".join(f'<{tag} class="{look}">{escape(text)}</{tag}>' for look, text in zip(looks, texts, strict=True)) + "</tr>"

    body = [row("td", list(texts)) for texts in cells(table).itertuples(index=False, name=None)]
    return "\n".join(["<table><thead>", row("th", [str(name) for name in table.columns]), "</thead><tbody>", *body, "</tbody></table>"])
