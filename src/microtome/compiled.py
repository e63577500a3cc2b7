"""Functions that torch.compile turns into few kernels, once a process and shape."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, compiled when it is first called; only here, because torch.compile itself takes seconds to import.

    Shapes are fixed: micro-batches have one size or two.
    """
    return torch.compile(function, dynamic=False)
