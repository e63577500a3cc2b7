"""Mistakes in words a user can act on: the key, what was found, what was expected."""

import pytest
from pydantic import Field, ValidationError, field_validator

from microtome.explain import did_you_mean, explain
from microtome.section import Section
from tests.test_config import refused, values


class Part(Section):
    epochs: int = Field(ge=1)
    lr: float

    @field_validator("lr")
    @classmethod
    def is_small(cls, lr: float) -> float:
        if lr > 1:
            raise ValueError(f"lr: found {lr}, expected at most 1; take 0.1")
        return lr


class Whole(Section):
    parts: list[Part]
    name: str


def explained(found: object, *keys: str) -> str:
    with pytest.raises(ValidationError) as error:
        Whole.model_validate(found)
    return explain(error.value, keys)


def test_a_misspelt_key_is_named_with_the_nearest() -> None:
    changed = values()
    changed["gma"]["epoch"] = 3
    assert "gma.epoch: unknown key; did you mean 'epochs'?" in refused(changed)


def test_a_misspelt_key_is_first_looked_for_among_those_that_its_section_lacks() -> None:
    changed = values()
    changed["gma"]["lrate"] = changed["gma"].pop("lr")
    text = refused(changed)
    assert "gma.lrate: unknown key; did you mean 'lr'?" in text
    assert "gma.lr: missing" in text


def test_every_mistake_is_told_at_once() -> None:
    changed = values()
    del changed["seed"]
    changed["splits"]["train_fraction"] = "most"
    text = refused(changed)
    assert "seed: missing" in text
    assert "splits.train_fraction: found 'most', expected: input should be a valid number" in text


def test_a_line_a_mistake_with_its_place_in_lists_too() -> None:
    good = {"epochs": 1, "lr": 0.5}
    lines = explained({"parts": [good, {"epochs": 0, "lr": 7, "epoch": 1}]}, "epochs", "lr").splitlines()
    assert lines == [
        "  parts.1.epochs: found 0, expected: input should be greater than or equal to 1",
        "  lr: found 7.0, expected at most 1; take 0.1",  # what the section says itself, as it says it
        "  parts.1.epoch: unknown key; did you mean 'epochs'?",
        "  name: missing; config/config.yaml has every key with a comment",
    ]


def test_nothing_like_it_is_no_hint() -> None:
    assert explained({"parts": [], "name": "a", "zzz": 1}, "parts", "name") == "  zzz: unknown key"
    assert explained({"parts": [], "name": "a", "nam": 1}) == "  nam: unknown key"  # no keys to choose from
    assert did_you_mean("epoch", ["epochs", "epoch_s"]) == "; did you mean 'epochs'?"
    assert [did_you_mean("epoch", []), did_you_mean("", ["a"]), did_you_mean("lr", ["epochs"])] == [""] * 3
