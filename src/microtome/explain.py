"""Validation errors in words a user can act on: the key, what was found, what was expected."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError


def explain(error: ValidationError, keys: Iterable[str] = ()) -> str:
    """One line a mistake; for a misspelt key the nearest of `keys`."""
    return "\n".join(f"  {_line(dict(detail), list(keys))}" for detail in error.errors())


def _line(detail: dict[str, Any], keys: list[str]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{did_you_mean(str(detail['loc'][-1]), keys)}"
    if detail["type"] == "missing":
        return f"{key}: missing; config/config.yaml has every key with a comment"
    if detail["type"] == "value_error":
        return str(detail["msg"]).removeprefix("Value error, ")
    return f"{key}: found {detail['input']!r}, expected: {detail['msg'].lower()}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the nearest of `names`, or nothing."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
