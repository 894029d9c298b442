"""What a published recipe consists of: names of methods and their options, nothing else.

Laws (tested over every registered recipe): each name is a registered method, and the methods accept
the options.
"""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RecipeSettings:
    """A way to move a model.

    Attributes:
        to: Method that learns the vocabulary.
        init: Initializer.
        heal: Healer.
        growth: Tokens to add, as a share of the source's vocabulary, for `to="extend"`.
        language: Code of the language that the text should be in; empty: any.
        options: Fields of the methods, as "method.field" and value.
    """

    to: str
    init: str
    heal: str
    growth: float = 0.25
    language: str = ""
    options: dict[str, str] = field(default_factory=dict)


class Recipe(Protocol):
    """A preset with its paper."""

    def settings(self) -> RecipeSettings:
        """Return the names and options."""
        ...
