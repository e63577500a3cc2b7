"""The protocol in words: the published one, what is switched on or off, and no number that is not a setting."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from microtome.config import Config, Tissue
from microtome.protocol import TISSUE, protocol
from tests.stage_settings import changed_config

CITED = r"(et al\. |and Bengio |after Holm \()\d{4}(, \d{4})?"


@pytest.fixture
def config() -> Config:
    return changed_config()


def test_the_published_protocol_in_words(config: Config) -> None:
    words = protocol(config)
    assert list(words) == [
        *["tissue", "tiles", "schedules", "pretraining of dino_vits16", "pretraining of mae_vitl16"],
        *["features", "splits", "aggregation", "statistics"],
    ]
    assert "256 x 256 px at 0.5 µm/px" in words["tiles"]
    assert "area-averaged from the nearest finer level" in words["tiles"]
    assert "as JPEG of quality 80, chroma subsampling 4:2:0" in words["tiles"]
    assert "65,000,000 tiles a pseudo-epoch, from one of 5 parts" in words["schedules"]
    # 5e-5 x 1080 / 256 and 1e-4 x 1440 / 256, as OPAL's command lines give them
    assert (
        "DINO, vit_small_patch16_224 from random weights, 1,080 tiles a step, fp32; learning rate up to 0.0002109"
        in words["pretraining of dino_vits16"]
    )
    assert "learning rate up to 0.0005625 in 5 pseudo-epochs, then down over 50 in all" in words["pretraining of mae_vitl16"]
    assert words["splits"] == (
        "20 Monte-Carlo splits a task, 80% of each class for training, no patient on both sides. "
        "Splits that a task table brings along (columns mccv) are taken as they are instead, checked that no patient is on both sides."
    )
    assert "50 epochs, AdamW, learning rate up to 0.0001 in 10 epochs" in words["aggregation"]


def test_what_is_switched_on_is_said(config: Config) -> None:
    tiles = config.tiles.model_copy(update={"min_tissue_fraction": 0.25, "min_sharpness": 15.0})
    schedule = config.schedule.model_copy(update={"exclude_tasks": ("example",)})
    splits = config.splits.model_copy(update={"group": "slide"})
    words = protocol(config.model_copy(update={"tiles": tiles, "schedule": schedule, "splits": splits}))
    assert "at least 25% tissue, sharpness of at least 15, as JPEG" in words["tiles"]
    assert "patients of example kept out" in words["schedules"]
    assert "patients may be on both sides" in words["splits"]


def numbers(values: Any) -> Iterator[float]:
    """All numbers among the settings; those in a name or in `420` (4:2:0) count, too."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from numbers([name, value])
    elif isinstance(values, list | tuple):
        for value in values:
            yield from numbers(value)
    elif isinstance(values, str):
        yield from (float(text) for text in re.findall(r"\d+", f"{values} {' '.join(values)}"))
    elif not isinstance(values, bool) and values is not None:
        yield float(values)


UNUSUAL: dict[str, dict[str, Any]] = {
    "tissue": {"subpixels": 101, "min_component_tiles": 102},
    "grid": {"tile_px": 103, "mpp": 0.104},
    "tiles": {"min_tissue_fraction": 0.05, "min_sharpness": 106.5, "min_intensity_sd": 107.5, "jpeg_quality": 94},
    "schedule": {"tiles": 109_109, "slide_parts": 110, "organ_alpha": 0.111},
    "splits": {"repeats": 112, "train_fraction": 0.13},
    "gma": {
        "hidden": 114,
        "attention": 115,
        "dropout": 0.116,
        "epochs": 117,
        "warmup_epochs": 116,
        "replicas": 119,
        "lr": 0.12,
        "lr_end": 0.121,
    },
    "figures": {"bootstrap": 122_122},
}


def test_every_setting_that_is_said_is_the_one_of_the_configuration() -> None:
    words = " ".join(protocol(changed_config(**UNUSUAL)).values())
    for values in UNUSUAL.values():
        for value in values.values():
            assert re.search(rf"\b({value:,}|{value:.0%})", words), value


def test_every_number_is_a_setting(config: Config) -> None:
    words = " ".join(protocol(config).values())
    settings = {*numbers(config.model_dump(mode="json")), 1080 * 5e-5 / 256, 1440 * 1e-4 / 256}
    for text in re.findall(r"\d[\d,.]*(?<![,.])%?", re.sub(CITED, "", words)):
        number = float(text.rstrip("%").replace(",", "")) / (100 if text.endswith("%") else 1)
        assert any(number == pytest.approx(setting, rel=1e-3) for setting in settings), text


def test_each_method_of_tissue_has_its_words() -> None:
    assert set(TISSUE) == set(get_args(Tissue.model_fields["method"].annotation))
    assert protocol(changed_config(tissue={"method": "hsv"}))["tissue"].startswith("A threshold of saturation on the thumbnail, ")


def test_what_is_switched_off_is_not_said() -> None:
    words = protocol(changed_config(tiles={"fast_path": False, "min_tissue_fraction": 0.0}))["tiles"]
    assert "kept with any tissue" in words
    assert "DCT" not in words
    assert "copied" not in words
