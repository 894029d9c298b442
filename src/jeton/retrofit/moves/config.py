"""What a move is asked to do: one field per flag of `transfer`, `extend`, `prune`, `distill`."""

from dataclasses import dataclass, replace
from typing import Any

from jeton.errors import ConfigError
from jeton.retrofit.config import DEFAULT_HEAL, DEFAULT_INIT, LARGEST_VOCABULARY, JobConfig

VERBS = ("transfer", "extend", "prune", "distill")
_HEAL = {"distill": "alm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveConfig(JobConfig):
    """Options of a move.

    Attributes:
        verb: One of `VERBS`.
        to: transfer: a tokenizer or model folder, "bytes", or a method that learns a vocabulary.
        teacher: distill: the model to learn from, with any vocabulary.
        num_tokens: extend: tokens to add; 0 adds the share `growth`.
        growth: extend: tokens to add as a share of the vocabulary; 0: the recipe's, else a quarter.
        recipe: transfer: a published recipe that sets `to`, `init`, `heal` and their options.
        init: How new rows start; empty: the recipe's, else "auto".
        heal: How the model is trained; empty: the recipe's, else cross_entropy (distill: alm).
        control: Whether the source is trained for the same seconds on the same text, to compare.
        language: Code of the language that the text should be in, such as "nl"; empty: any.
    """

    verb: str
    to: str = ""
    teacher: str = ""
    num_tokens: int = 0
    growth: float = 0.0
    recipe: str = ""
    init: str = ""
    heal: str = ""
    control: bool = False
    language: str = ""

    def __post_init__(self) -> None:
        JobConfig.__post_init__(self)
        if self.verb == "transfer" and not (self.to or self.recipe):
            raise ConfigError(
                "transfer needs a destination", hint="add --to TOKENIZER, --to bytes or --recipe"
            )
        if self.verb == "distill" and not self.teacher:
            raise ConfigError("distill needs a teacher", hint="jeton distill TEACHER STUDENT")

    def checks(self) -> dict[str, tuple[bool, str]]:
        """Return, by field, whether its value is fine and what is allowed."""
        most = LARGEST_VOCABULARY
        return {
            "verb": (self.verb in VERBS, ", ".join(VERBS)),
            "num_tokens": (0 <= self.num_tokens <= most, f"0 (use growth) to {most}"),
            "growth": (0 <= self.growth <= 100, "0 (a quarter) to 100"),
            **JobConfig.checks(self),
        }

    def resolved(self) -> "MoveConfig":
        """Return the configuration with everything that was left to a recipe or a default.

        What was given wins over the recipe.

        Raises:
            UnknownMethodError: there is no such recipe.
        """
        from jeton.transfer.registry import RECIPES

        settings = RECIPES.create(self.recipe).settings() if self.recipe else None
        given: dict[str, Any] = {}
        if settings is not None:
            # The options of the recipe belong to its own methods.
            chosen = {
                self.to or settings.to,
                self.init or settings.init,
                self.heal or settings.heal,
            }
            options = {k: v for k, v in settings.options.items() if k.partition(".")[0] in chosen}
            given = {
                "to": self.to or settings.to,
                "init": self.init or settings.init,
                "heal": self.heal or settings.heal,
                "growth": self.growth or settings.growth,
                "language": self.language or settings.language,
                "options": {**options, **self.options},
            }
        asked = replace(self, **given)
        return replace(
            asked,
            init=asked.init or DEFAULT_INIT,
            heal=asked.heal or _HEAL.get(self.verb, DEFAULT_HEAL),
            growth=asked.growth or 0.25,
        )
