"""What a move is asked to do: one field per flag of `transfer`, `extend`, `prune`, `distill`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jeton.errors import ConfigError

VERBS = ("transfer", "extend", "prune", "distill")
_HEAL = {"distill": "alm"}
_LARGEST = 4_000_000


@dataclass(frozen=True, slots=True)
class MoveConfig:
    """Options of a move.

    Attributes:
        verb: One of `VERBS`.
        model: Folder or hub name of the causal LM that is changed, or "starter".
        text: Files and folders with the user's own text.
        out: Folder to write; must not exist or be empty.
        to: transfer: a tokenizer or model folder, "bytes", or a method that learns a vocabulary.
        teacher: distill: the model to learn from, with any vocabulary.
        num_tokens: extend: tokens to add; 0 adds the share `growth`.
        growth: extend: tokens to add as a share of the vocabulary; 0: the recipe's, else a quarter.
        vocab_size: prune, or a vocabulary that is learned: its size; 0 for the method's own rule.
        recipe: transfer: a published recipe that sets `to`, `init`, `heal` and their options.
        held_out: Text for verification only; empty takes a tenth of `text`.
        general: General text: part of it is mixed into healing, the rest shows forgetting.
        init: How new rows start; empty: the recipe's, else mean.
        heal: How the model is trained; empty: the recipe's, else cross_entropy (distill: alm).
        minutes: Time for healing; turned into a number of steps at the start.
        steps: Number of healing steps; overrides `minutes` when not -1, 0 skips healing.
        control: Whether the source is trained for the same seconds on the same text, to compare.
        language: Code of the language that the text should be in, such as "nl"; empty: any.
        dtype: Numbers of the written model: auto keeps the source's.
        seed: Of everything random.
        max_text_bytes: Most text that is read, in bytes.
        verify_bytes: Most held-out text that bits per byte are measured on, in bytes.
        threads: CPU threads of torch; 0 leaves torch's own choice.
        options: Fields of the chosen methods, as "method.field=value" pairs.
    """

    verb: str
    model: str
    text: tuple[Path, ...]
    out: Path
    to: str = ""
    teacher: str = ""
    num_tokens: int = 0
    growth: float = 0.0
    vocab_size: int = 0
    recipe: str = ""
    held_out: tuple[Path, ...] = ()
    general: tuple[Path, ...] = ()
    init: str = ""
    heal: str = ""
    minutes: float = 10.0
    steps: int = -1
    control: bool = False
    language: str = ""
    dtype: str = "auto"
    seed: int = 0
    max_text_bytes: int = 200_000_000
    verify_bytes: int = 300_000
    threads: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks: dict[str, tuple[bool, str]] = {
            "verb": (self.verb in VERBS, ", ".join(VERBS)),
            "minutes": (0 <= self.minutes <= 100_000, "between 0 and 100000"),
            "steps": (self.steps >= -1, "-1 (use minutes), 0 (skip) or more"),
            "num_tokens": (0 <= self.num_tokens <= _LARGEST, f"0 (use growth) to {_LARGEST}"),
            "growth": (0 <= self.growth <= 100, "0 (a quarter) to 100"),
            "vocab_size": (0 <= self.vocab_size <= _LARGEST, f"0 (own rule) to {_LARGEST}"),
            "dtype": (self.dtype in ("auto", "float32", "bfloat16"), "auto, float32 or bfloat16"),
            "verify_bytes": (self.verify_bytes >= 1000, "at least 1000"),
            "max_text_bytes": (self.max_text_bytes >= 1000, "at least 1000"),
            "threads": (self.threads >= 0, "at least 0"),
        }
        for name, (is_fine, allowed) in checks.items():
            if not is_fine:
                raise ConfigError(f"{name} must be {allowed}, got {getattr(self, name)!r}")
        if not self.text:
            raise ConfigError("no text was given", hint="add --text FILE_OR_FOLDER")
        if self.verb == "transfer" and not (self.to or self.recipe):
            raise ConfigError(
                "transfer needs a destination", hint="add --to TOKENIZER, --to bytes or --recipe"
            )
        if self.verb == "distill" and not self.teacher:
            raise ConfigError("distill needs a teacher", hint="jeton distill TEACHER STUDENT")

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
        default_heal = _HEAL.get(self.verb, "cross_entropy")
        asked = replace(self, **given)
        return replace(
            asked,
            init=asked.init or "mean",
            heal=asked.heal or default_heal,
            growth=asked.growth or 0.25,
        )

    def options_for(self, method: str) -> dict[str, Any]:
        """Return the options given for one method, without its name."""
        prefix = method + "."
        return {k[len(prefix) :]: v for k, v in self.options.items() if k.startswith(prefix)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "MoveConfig":
        """Return the configuration that `run.json` holds.

        Raises:
            ConfigError: a field is unknown or missing.
        """
        values = dict(document)
        for name in ("text", "held_out", "general"):
            values[name] = tuple(Path(p) for p in values.get(name, ()))
        try:
            values["out"] = Path(values["out"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ConfigError(
                f"this run.json is of another verb: {error}", hint="resume it with that verb"
            ) from error
