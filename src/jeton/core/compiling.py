"""Compile a function with numba where it is installed; imported only by what has hot loops."""

from collections.abc import Callable
from typing import Any

F = Callable[..., Any]

try:
    from numba import njit as _njit
except ImportError:
    HAS_NUMBA = False
else:
    HAS_NUMBA = True


def compiled(function: F) -> F:
    """Return the compiled function, kept on disk where that is possible, or the function itself."""
    return _compile(function, {})


def inlined(function: F) -> F:
    """Return a function compiled into its callers: a call that passes many arrays costs more."""
    return _compile(function, {"inline": "always"})


def _compile(function: F, options: dict[str, Any]) -> F:
    if not HAS_NUMBA:
        return function
    try:
        kept: F = _njit(cache=True, **options)(function)
    except RuntimeError:  # no place to keep the compiled code: compile in each process
        kept = _njit(**options)(function)
    return kept
