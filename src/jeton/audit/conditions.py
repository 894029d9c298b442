"""Conditions for continuous integration: `--fail-on "premium>3,dead>0"`."""

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jeton.audit.contract import MetricResult
from jeton.audit.registry import METRICS
from jeton.audit.run import AuditResult
from jeton.errors import ConfigError

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(
    r"\s*([\w-]+)(?:\[([^\]]+)\])?\s*(>=|<=|>|<)\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*"
)
_FLAGS = {
    "text to": "--text FILE",
    "parallel text": "--parallel DIR",
    "embedding": "--model MODEL",
    "lexicon": "--lexicon FILE",
    "morphemes": "--segmentation FILE",
}
_EXAMPLE = 'write metric, operator and number, such as "premium>3,dead>0,premium[mya]>10"'


@dataclass(frozen=True, slots=True)
class Condition:
    """A figure that fails the audit when the comparison holds.

    Attributes:
        metric: Name in the registry.
        group: One group of the figure; empty for its value.
        comparison: One of `>`, `>=`, `<`, `<=`.
        limit: The number to compare with.
    """

    metric: str
    group: str
    comparison: str
    limit: float

    def __str__(self) -> str:
        group = f"[{self.group}]" if self.group else ""
        return f"{self.metric}{group}{self.comparison}{self.limit:g}"


@dataclass(frozen=True, slots=True)
class Failure:
    """A condition that holds, with the figure found."""

    condition: Condition
    value: float

    def __str__(self) -> str:
        return f"{self.condition} holds: it is {self.value:.6g}"


def parse_fail_on(expression: str) -> list[Condition]:
    """Return the conditions of a comma-separated expression.

    Raises:
        ConfigError: a part that is no condition, or a metric that does not exist.

    Example:
        >>> [str(c) for c in parse_fail_on("premium > 3, dead>0")]
        ['premium>3', 'dead>0']
    """
    conditions = []
    for part in expression.split(","):
        found = _CONDITION.fullmatch(part)
        if found is None:
            raise ConfigError(f"{part.strip()!r} is not a condition", hint=_EXAMPLE)
        metric, group, comparison, limit = found.groups()
        try:
            number = float(limit)
        except ValueError:
            raise ConfigError(f"{limit!r} in {part.strip()!r} is not a number") from None
        metric = metric.replace("-", "_")
        if metric not in METRICS.names():
            raise ConfigError(
                f"there is no metric {metric!r}; there are: {', '.join(METRICS.names())}",
                hint=_did_you_mean(metric, METRICS.names()),
            )
        conditions.append(Condition(metric, group or "", comparison, number))
    return conditions


def check(result: AuditResult, conditions: Sequence[Condition]) -> list[Failure]:
    """Return the conditions that hold for an audit, with the figures found.

    Raises:
        ConfigError: a condition on a figure that was not measured: it must not pass unseen.
    """
    failures = []
    for condition in conditions:
        value = _value(result, condition)
        if _OPERATORS[condition.comparison](value, condition.limit):
            failures.append(Failure(condition, value))
    return failures


def _value(result: AuditResult, condition: Condition) -> float:
    figure = result.figure(condition.metric)
    if figure is None:
        needed = result.skipped.get(condition.metric)
        reason = f"it needs {needed}" if needed else "it is not among the metrics asked for"
        raise ConfigError(f"{condition} cannot be checked: {reason}", hint=_mend(needed))
    if condition.group:
        return _group_value(figure, condition)
    if figure.value is None:
        raise ConfigError(f"{condition} cannot be checked: {figure.detail}")
    return figure.value


def _group_value(figure: MetricResult, condition: Condition) -> float:
    if condition.group not in figure.groups:
        names = sorted(figure.groups)
        raise ConfigError(
            f"{condition.metric} has no group {condition.group!r}; it has: {', '.join(names)}",
            hint=_did_you_mean(condition.group, names),
        )
    return figure.groups[condition.group]


def _mend(needed: str | None) -> str | None:
    if needed is None:
        return "name it with --metric, or give no --metric"
    flags = [flag for words, flag in _FLAGS.items() if words in needed]
    return f"give it with {' and '.join(flags) or 'AuditInput'}, or leave the condition out"


def _did_you_mean(name: str, names: Sequence[str]) -> str | None:
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else None
