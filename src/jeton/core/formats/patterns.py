"""Refuses patterns that take exponential time: the engine cannot be interrupted once it matches."""

import re
from collections.abc import Iterable
from typing import Any

from jeton.errors import TokenizerError

MAX_PATTERN_CHARS = 8_000  # the longest published one has about 700
_CLASS = r"\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]"
_ATOM = rf"(?:{_CLASS}|\\[pP]\{{[^}}]*\}}|\\.|[^\\()\[\]|?*+{{}}])"
_UNBOUNDED = r"(?:[*+]|\{\d*,\})[?+]?"
# a group of which one alternative is nothing but an atom without bound, itself without bound
_NESTED = re.compile(
    rf"\((?:\?:|\?[a-z]+:)?(?:{_ATOM}{{1,40}}\|){{0,8}}{_ATOM}{_UNBOUNDED}"
    rf"(?:\|[^()]{{0,200}})?\){_UNBOUNDED}"
)


def check_patterns(steps: Iterable[dict[str, Any]], name: str) -> None:
    """Refuse steps of a tokenizer.json whose pattern is a trap.

    Raises:
        TokenizerError: naming the pattern.
    """
    for step in steps:
        pattern = step.get("pattern")
        if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
            check_pattern(pattern["Regex"], name)


def check_pattern(pattern: str, name: str) -> None:
    """Refuse a pattern that is huge or repeats a repetition, such as "(a+)+".

    Raises:
        TokenizerError: naming the pattern.

    Example:
        >>> check_pattern(r"\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))| ?\\p{L}+", "fine")
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise TokenizerError(
            f"{name}: a pattern has {len(pattern):,} characters; "
            f"at most {MAX_PATTERN_CHARS:,} are read"
        )
    found = _NESTED.search(pattern)
    if found is not None:
        raise TokenizerError(
            f"{name}: the pattern {found.group()[:60]!r} repeats a repetition, which can take "
            "exponential time",
            hint="write the inner repetition without + or *, or the outer one; then try again",
        )
