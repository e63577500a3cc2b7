"""`python -m microtome.<rule>`: a rule's function, called with flags made from its signature."""

import argparse
import functools
import gc
import inspect
import sys
import typing
from collections.abc import Callable

from pydantic import BaseModel, ValidationError

from microtome.errors import NO_ROOM, STOPPED, StoppedError, UserError
from microtome.explain import explain


def parser_of(function: Callable[..., None]) -> argparse.ArgumentParser:
    """A flag for each parameter: `Path`, `str`, `int`, `float`, `bool` (true or false), `list[Path]`, or a settings class, given as JSON.

    A parameter is required unless it has a default; `tile_index` becomes `--tile-index`; `list[...]` takes one or more values
    (none at all where its default is an empty list or tuple); `list[str]` takes the words behind `--`, a command.
    """
    parser = argparse.ArgumentParser(prog=f"python -m microtome.{function.__name__}", description=function.__doc__)
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        default = None if required else parameter.default
        kind = hints[name]
        flag = f"--{name.replace('_', '-')}"
        if kind == list[str]:
            parser.add_argument(name, nargs="+", help="the words behind --")
        elif typing.get_origin(kind) is list:
            parser.add_argument(flag, type=typing.get_args(kind)[0], nargs="+" if required else "*", required=required, default=default)
        else:
            parser.add_argument(flag, type=_reader(kind), required=required, default=default)
    return parser


def _reader(kind: object) -> Callable[[str], object]:
    kinds = [k for k in typing.get_args(kind) if k is not type(None)] or [kind]  # `Path | None` is read as a Path
    if isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel):
        return functools.partial(_settings, kinds[0])
    if kinds[0] is bool:
        return lambda text: {"true": True, "false": False}[text.lower()]
    return typing.cast("Callable[[str], object]", kinds[0])


def _settings(kind: type[BaseModel], text: str) -> BaseModel:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(f"not valid {kind.__name__}:\n{explain(error)}") from None


def run(function: Callable[..., None]) -> None:
    """Call `function` with the flags of this process; a `UserError` or a full disk ends it with its text and status 1, without a traceback.

    A `StoppedError` ends it with status `STOPPED`, so that a launcher can tell a stop from a failure.
    """
    gc.freeze()  # what was imported is no garbage: not to be looked through now and then, and at the end
    gc.enable()
    try:
        function(**vars(parser_of(function).parse_args()))
    except StoppedError as error:
        print(f"microtome: {error}", file=sys.stderr)
        sys.exit(STOPPED)
    except UserError as error:
        sys.exit(f"microtome: {error}")
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"microtome: {where}{error.strerror}. Make room and run again: what is finished is kept.")
