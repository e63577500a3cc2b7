"""The rule `methods`: what a paper's methods section and its supplement need: the protocol in words, every setting that was used, what is
on the card of each trained encoder, and the versions of the software.

A section's line is that of its class in `config.py`. Versions are those at the time this table was written; an encoder's commit is that of
the time it was trained.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from microtome.command_line import run
from microtome.config import Config
from microtome.protocol import protocol
from microtome.section import Section
from microtome.software import versions
from microtome.table_files import write_table

ON_CARD = ["model", "img_size", "pseudo_epoch", "steps", "tiles_seen", "microtome", "commit", "schedule_sha256"]


def settings_of(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each single value below `values` under its dotted key; a list of plain values is one value."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from settings_of(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, values if isinstance(values, str) else json.dumps(values, ensure_ascii=False)


def settings_tables(config: Config) -> dict[str, tuple[str, pd.DataFrame]]:
    """For each section of the configuration its line and a row a setting: setting, value. Values outside sections are "general"."""
    values = config.model_dump(mode="json")
    sections = {name: _line(getattr(config, name)) for name in values if isinstance(values[name], Mapping)}
    general = {name: value for name, value in values.items() if name not in sections}
    tables = {"general": ("What concerns every step.", general), **{name: (line, values[name]) for name, line in sections.items()}}
    return {name: (line, pd.DataFrame(settings_of(below), columns=["setting", "value"])) for name, (line, below) in tables.items()}


def _line(section: Any) -> str:
    """What the section's class says it is; of named sections of one kind, what that kind is."""
    kinds = section.values() if isinstance(section, dict) else [section]
    return " ".join(dict.fromkeys((type(kind).__doc__ or "").split("\n")[0] for kind in kinds if isinstance(kind, Section)))


def encoders_table(weights: list[Path]) -> pd.DataFrame:
    """A row a thing that stands on the card of an encoder.safetensors: setting (run and name), value."""
    rows = []
    for path in weights:
        with safe_open(path, framework="numpy") as file:
            card = json.loads(file.metadata()["card"])
        rows += [(f"{path.parent.parent.name}.{name}", value) for name, value in settings_of({name: card[name] for name in ON_CARD})]
    return pd.DataFrame(rows, columns=["setting", "value"])


def methods(weights: list[Path], folder: Path, settings: Config) -> None:
    """Write methods.csv, .md and .tex, a row a setting, and methods.html, a table a section, into `folder`."""
    words, software = (pd.DataFrame(found.items(), columns=["setting", "value"]) for found in (protocol(settings), versions()))
    trained = ("From the card of each run's last checkpoint.", encoders_table(weights))
    sections = {
        "in words": ("What was done.", words),
        **settings_tables(settings),
        "encoders trained": trained,
        "software": ("When this was written.", software),
    }
    flat = pd.concat([table.assign(section=name)[["section", "setting", "value"]] for name, (_, table) in sections.items()])
    write_table(folder / "methods", "Methods: every setting, and the software", flat, sections=sections)


if __name__ == "__main__":
    run(methods)
