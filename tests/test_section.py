"""Sections of the configuration: closed, frozen, of finite values, with names that are safe as file names."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from microtome.section import Count, Fraction, Name, Positive, Rgb, Section


class Drawn(Section):
    """One of each kind."""

    name: Name
    fraction: Fraction
    positive: Positive
    count: Count
    colour: Rgb


GOOD: dict[str, Any] = {"name": "dino_vits16@1"[:11], "fraction": 0.1, "positive": 1e-9, "count": 1, "colour": (0.1, 0.2, 0.3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": 2}, "Extra inputs are not permitted"),
        ({"fraction": 1.01}, "less than or equal to 1"),
        ({"fraction": -0.01}, "greater than or equal to 0"),
        ({"fraction": float("nan")}, "finite number"),
        ({"positive": float("inf")}, "finite number"),
        ({"positive": 0}, "greater than 0"),
        ({"count": 0}, "greater than or equal to 1"),
        ({"count": 1.5}, "valid integer"),
        ({"colour": (0.1, 0.2)}, "Field required"),
        ({"colour": (0.1, 0.2, float("nan"))}, "finite number"),
    ],
)
def test_a_value_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    Drawn.model_validate(GOOD)
    with pytest.raises(ValidationError, match=f"1 validation error(.|\n)*{message}"):
        Drawn.model_validate({**GOOD, **change})


@pytest.mark.parametrize("name", ["", ".hidden", "..", "-rf", "a/b", "../a", "a b", "a\n", "é", "a@1", "a\0"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"name\n  String should match pattern"):
        Drawn.model_validate({**GOOD, "name": name})


def test_values_do_not_change() -> None:
    with pytest.raises(ValidationError, match="Instance is frozen"):
        Drawn.model_validate(GOOD).count = 2  # type: ignore[misc]


@given(st.floats(0, 1), st.floats(min_value=0, exclude_min=True, allow_infinity=False), st.permutations(list(GOOD)))
def test_the_same_values_give_the_same_text_and_the_text_the_same_values(fraction: float, positive: float, order: list[str]) -> None:
    values = {**GOOD, "fraction": fraction, "positive": positive}
    text = Drawn.model_validate(values).json_text()
    assert Drawn.model_validate({key: values[key] for key in order}).json_text() == text
    assert Drawn.model_validate_json(text) == Drawn.model_validate(values)
    assert json.loads(text) == {**values, "colour": [0.1, 0.2, 0.3]}
    assert Drawn.model_validate({**values, "positive": 2}).json_text() == Drawn.model_validate({**values, "positive": 2.0}).json_text()
