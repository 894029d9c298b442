"""Registries of methods: one explicit dict per family, rows that are loaded only when asked for."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from jeton.errors import ConfigError, UnknownMethodError


class Verification(StrEnum):
    """What was proven about a method here."""

    EXACT = "verified-exact"
    SMALL = "verified-small"
    FORMULA = "formula-only"


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a method comes from."""

    title: str
    year: int
    url: str


@dataclass(frozen=True, slots=True)
class Row:
    """One method of a family.

    Attributes:
        target: `"module:Class"`, imported only when the method is asked for.
        summary: One line, what it does.
        paper: Its source.
        verified: What was proven about it here.
        evidence: The test or command that shows it.
        cost: In words, what it costs.
        needs: In words, what it needs; empty when nothing.
    """

    target: str
    summary: str
    paper: Paper
    verified: Verification
    evidence: str
    cost: str
    needs: str = ""


@dataclass(frozen=True)
class Registry:
    """The methods of one family: our rows plus those of the entry-point group `jeton.<family>`."""

    family: str
    rows: Mapping[str, Row]
    default: str = ""
    _plugins: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """Return the names of all methods, sorted."""
        return sorted({*self.rows, *self._entry_points()})

    def _entry_points(self) -> dict[str, Any]:
        if not self._plugins:
            found = entry_points(group=f"jeton.{self.family}")
            self._plugins.update({point.name: point for point in found})
        return self._plugins

    def load(self, name: str) -> type:
        """Return the class of a method.

        Raises:
            UnknownMethodError: there is no such row; near names are offered.
        """
        if name in self.rows:
            module, _, attribute = self.rows[name].target.partition(":")
            loaded: type = getattr(import_module(module), attribute)
            return loaded
        if name in self._entry_points():
            plugin: type = self._plugins[name].load()
            return plugin
        raise UnknownMethodError(
            f"{self.family} has no method {name!r}; it has: {', '.join(self.names())}",
            hint=did_you_mean(name, self.names()),
        )

    def create(self, name: str, options: Mapping[str, Any] | None = None) -> Any:
        """Return an instance of a method; `options` are its dataclass fields.

        Raises:
            UnknownMethodError: there is no such row.
            ConfigError: an option that the method does not have.
        """
        return construct(name, self.load(name), options or {})


def construct(name: str, method: type, options: Mapping[str, Any]) -> Any:
    """Return an instance of a dataclass; text values become what its fields want.

    Raises:
        ConfigError: an option that is no field, or a value of the wrong type.
    """
    known = {f.name: f for f in fields(method) if f.init} if is_dataclass(method) else {}
    given = {}
    for option, value in options.items():
        if option not in known:
            raise ConfigError(
                f"{name} has no option {option!r}; it has: {', '.join(known) or 'none'}",
                hint=did_you_mean(option, list(known)),
            )
        given[option] = _coerce(value, known[option].type, f"{name}.{option}")
    return method(**given)


def did_you_mean(name: str, names: list[str]) -> str | None:
    """Return a hint with the nearest names, or None when none is near."""
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else None


def _coerce(value: Any, annotation: Any, where: str) -> Any:
    """Turn the text of `--set key=value` into the field's type; other values pass through."""
    if not isinstance(value, str):
        return value
    kind = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "str")
    try:
        if kind == "int":
            return int(value)
        if kind == "float":
            return float(value)
    except ValueError:
        raise ConfigError(f"{where} must be of type {kind}, got {value!r}") from None
    if kind == "bool":
        if value.lower() not in ("true", "false"):
            raise ConfigError(f"{where} must be true or false, got {value!r}")
        return value.lower() == "true"
    return value
