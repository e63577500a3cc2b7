"""Settings of rules: each holds what changes the bytes of its rules and nothing else, and reaches them whole as JSON."""

from pathlib import Path
from typing import Any

import pytest

from microtome import settings
from microtome.jobs import Jobs
from microtome.section import Section
from tests.test_jobs import jobs

RUN, ENCODER = "dino_tiny", "dino_tiny@1"


def all_settings(of: Jobs) -> dict[str, Section]:
    """By class."""
    found = [of.cohort_settings(), of.tissue_settings(), of.tiles_settings(), of.schedule_settings(), of.pretrain_settings(RUN)]
    found += [of.encoder_settings(ENCODER), of.quality_sample_settings(), of.splits_settings(), of.gma_settings()]
    found += [of.figures_settings(), of.attention_settings("task0"), of.tables_settings()]
    return {type(one).__name__.removesuffix("Settings"): one for one in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cohort")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Section]:
    return all_settings(jobs(folder))


def test_none_is_forgotten_and_all_come_back_from_a_command_line(found: dict[str, Section]) -> None:
    assert set(found) == {name.removesuffix("Settings") for name in vars(settings) if name.endswith("Settings")}
    for one in found.values():
        assert type(one).model_validate_json(one.json_text()) == one


@pytest.mark.parametrize(
    ("section", "change", "expected"),
    [
        ("cohort", {"stains": ["IHC"]}, {"Cohort"}),
        ("reader", {"max_mpp": 1.5}, {"Tissue", "Tiles"}),
        ("grid", {"layout": "aligned"}, {"Tissue", "Tiles"}),
        ("tissue", {"blur_px": 7}, {"Tissue"}),
        ("tiles", {"jpeg_quality": 71}, {"Tiles"}),
        ("tiles", {"fast_path": False}, {"Tiles", "Encoder"}),
        ("tiles", {"check_copies": False}, {"Tiles"}),
        ("schedule", {"organ_alpha": 0.25}, {"Schedule"}),
        ("pretrain", {"save_every_minutes": 1.5, "max_batch_per_process": 3, "max_replaced_tiles": 9, "tensorboard": True}, set()),
        (
            "pretrain",
            {
                "monitor": {
                    "action": "stop",
                    "min_entropy_fraction": 0.5,
                    "min_spread_fraction": 0.5,
                    "max_loss_fraction": 0.5,
                    "min_rankme": 9.0,
                }
            },
            set(),
        ),
        ("features", {"dtype": "float16"}, {"Encoder"}),
        ("features", {"shards": 3}, set()),
        ("splits", {"train_fraction": 0.7}, {"Splits"}),
        ("gma", {"dropout": 0.3}, {"Gma"}),
        ("figures", {"bootstrap": 77}, {"Figures", "Tables"}),
        ("figures", {"attention_slides": 7}, {"Figures", "Attention"}),
    ],
)
def test_a_change_concerns_its_own_rules(
    section: str, change: dict[str, Any], expected: set[str], folder: Path, found: dict[str, Section]
) -> None:
    after = all_settings(jobs(folder, **{section: change}))
    assert {name for name in found if found[name].json_text() != after[name].json_text()} == expected
