"""The settings of the slide stages, from the project's configuration with changes."""

from typing import Any

from microtome.config import Config, load_config
from microtome.settings import TilesSettings, TissueSettings
from tests.test_config import values


def changed_config(**sections: dict[str, Any]) -> Config:
    """`config.yaml` with some values of some sections changed: `changed_config(grid={"tile_px": 64})`."""
    changed = values() | {"tasks": {}}
    for section, new in sections.items():
        changed[section] |= new
    return load_config(changed)


def tissue_settings(**sections: dict[str, Any]) -> TissueSettings:
    config = changed_config(**sections)
    return TissueSettings(reader=config.reader, grid=config.grid, tissue=config.tissue)


def tiles_settings(**sections: dict[str, Any]) -> TilesSettings:
    config = changed_config(**sections)
    return TilesSettings(reader=config.reader, grid=config.grid, tiles=config.tiles)
