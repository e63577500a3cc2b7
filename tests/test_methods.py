"""The methods state every value of the configuration, and what stands on the cards of the encoders."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import save_file

from microtome.config import Config, load_config
from microtome.methods import ON_CARD, methods, settings_of
from tests.test_table_files import Cells, assert_tex

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))


@pytest.fixture(scope="module")
def folder(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    weights = folder / "pretrain" / "dino_vits16" / "25" / "encoder.safetensors"
    weights.parent.mkdir(parents=True)
    card = {**dict.fromkeys(ON_CARD, "x"), "steps": 1234, "commit": None, "recipe": {"lr": 1}}
    save_file({"w": np.zeros(1)}, weights, metadata={"card": json.dumps(card)})
    methods([weights], folder, config)
    return folder


def leaves(values: object) -> int:
    return sum(leaves(value) for value in values.values()) if isinstance(values, dict) else 1


def test_every_value_is_there_once(folder: Path, config: Config) -> None:
    table = pd.read_csv(folder / "methods.csv", dtype=str, keep_default_na=False)
    settings = table[~table["section"].isin(["in words", "encoders trained", "software"])]
    assert len(settings) == leaves(config.model_dump(mode="json"))
    assert not table.duplicated(["section", "setting"]).any()
    value = settings.set_index(["section", "setting"])["value"]
    assert value["general", "seed"] == "0"
    assert value["pretrain", "recipes.dino.out_dim"] == "65536"
    assert value["tissue", "pen_blue_hue"] == "[90, 116]"
    assert value["features", "encoders.tres50.truncate"] == "layer3"
    assert value["schedule", "max_tiles_per_slide"] == "null"


def test_cards_and_software_are_there(folder: Path) -> None:
    value = pd.read_csv(folder / "methods.csv", dtype=str).set_index(["section", "setting"])["value"]
    assert value["encoders trained", "dino_vits16.steps"] == "1234"
    assert value["software", "numpy"] == np.__version__


def test_the_page_has_a_table_a_section_with_what_it_is(folder: Path, config: Config) -> None:
    text = (folder / "methods.html").read_text()
    assert text.count("<h2>") == len(config.model_dump()) - 3 + 4, "seed, slides and max_failed_fraction are general"
    assert "Gated-attention aggregation (Ilse et al. 2018)" in text
    assert "<p>A slide-level task" in text
    assert ["lr", "0.0001"] in Cells(text).rows
    assert_tex((folder / "methods.tex").read_text())


def test_values_are_flattened() -> None:
    assert list(settings_of({"a": {"b": [1, 2.5], "c": None}, "d": True})) == [("a.b", "[1, 2.5]"), ("a.c", "null"), ("d", "true")]
