"""Validation errors in words a user can act on: the key, what was found, what was expected."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError


def explain(error: ValidationError, keys: Iterable[str] = ()) -> str:
    """One line a mistake; for a misspelt key the nearest of `keys`."""
    details: list[dict[str, Any]] = [dict(detail) for detail in error.errors()]
    missing: list[tuple[Any, ...]] = [detail["loc"] for detail in details if detail["type"] == "missing"]
    return "\n".join(f"  {_line(detail, missing, list(keys))}" for detail in details)


def _line(detail: dict[str, Any], missing: list[tuple[Any, ...]], keys: list[str]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        beside = [str(other[-1]) for other in missing if other[:-1] == detail["loc"][:-1]]  # of the same section, and not there
        name = str(detail["loc"][-1])
        return f"{key}: unknown key{did_you_mean(name, beside, 0.4) or did_you_mean(name, keys)}"
    if detail["type"] == "missing":
        return f"{key}: missing; config/config.yaml has every key with a comment"
    if detail["type"] == "value_error":
        return str(detail["msg"]).removeprefix("Value error, ")
    return f"{key}: found {detail['input']!r}, expected: {detail['msg'].lower()}"


def did_you_mean(name: str, names: Iterable[str], alike: float = 0.6) -> str:
    """ "; did you mean 'x'?" for the nearest of `names`, or nothing; `alike` of 1 is the same."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=alike)
    return f"; did you mean {near[0]!r}?" if near else ""
