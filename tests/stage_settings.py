"""The settings of the slide stages, from the project's configuration with changes, those of small schedules and of an encoder."""

from typing import Any

from microtome.config import Config, Schedule, load_config
from microtome.settings import EncoderSettings, ScheduleSettings, TilesSettings, TissueSettings
from tests.test_config import values

RES18 = {
    "timm": "resnet18",
    "weights": "random",
    "arguments": {},
    "normalization": None,
    "truncate": None,
    "pooling": "model",
    "input_px": 32,
}


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


def schedule_settings(seed: int = 0, **changes: object) -> ScheduleSettings:
    values = {"version": 1, "pseudo_epochs": 6, "tiles": 60, "slide_parts": 3, "organ_alpha": 0.5, "max_tiles_per_slide": None}
    schedule = Schedule.model_validate({**values, "block": 1, "exclude_tasks": [], **changes})
    return ScheduleSettings(seed=seed, schedule=schedule)


def encoder_settings(name: str = "res18", **changed: object) -> EncoderSettings:
    """Of `RES18`, in float32 from stored tiles."""
    fixed = {"version": 1, "seed": 0, "encoder": RES18, "precision": "fp32", "dtype": "float32", "source": "tiles", "fast_path": True}
    return EncoderSettings.model_validate({"name": name, **fixed, **changed})
