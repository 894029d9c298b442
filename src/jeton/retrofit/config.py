"""What a job that moves a model is asked to do; `jeton retrofit` has one field per flag."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.learn.byte_fallback import check_extendable

LARGEST_VOCABULARY = 4_000_000
DEFAULT_INIT = "auto"
DEFAULT_HEAL = "cross_entropy"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """Options of every job that moves a model and heals it.

    Attributes:
        model: Folder or hub name of the causal LM that is changed, or "starter".
        text: Files and folders with the user's own text.
        out: Folder to write; must not exist or be empty.
        held_out: Text for verification only; empty takes a tenth of `text`.
        general: General text: part of it is mixed into healing, the rest shows forgetting.
        vocab_size: Size of a vocabulary that is learned; 0 for the method's own rule.
        init: How new rows start. "auto" takes the hypernetwork where the model has one, else the
            mean of the parts.
        heal: How the model is trained on them.
        minutes: Time for healing; turned into a number of steps at the start.
        steps: Number of healing steps; overrides `minutes` when not -1, 0 skips healing.
        dtype: Numbers of the written model: auto keeps the source's.
        seed: Of everything random.
        max_text_bytes: Most text that is read, in bytes.
        verify_bytes: Most held-out text that bits per byte are measured on, in bytes.
        threads: CPU threads of torch; 0 leaves torch's own choice.
        options: Fields of the chosen methods, as "method.field=value" pairs.
    """

    model: str
    text: tuple[Path, ...]
    out: Path
    held_out: tuple[Path, ...] = ()
    general: tuple[Path, ...] = ()
    vocab_size: int = 0
    init: str = DEFAULT_INIT
    heal: str = DEFAULT_HEAL
    minutes: float = 10.0
    steps: int = -1
    dtype: str = "auto"
    seed: int = 0
    max_text_bytes: int = 200_000_000
    verify_bytes: int = 300_000
    threads: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.text:
            raise ConfigError("no text was given", hint="add --text FILE_OR_FOLDER")
        for name, (is_fine, allowed) in self.checks().items():
            if not is_fine:
                raise ConfigError(f"{name} must be {allowed}, got {getattr(self, name)!r}")

    def checks(self) -> dict[str, tuple[bool, str]]:
        """Return, by field, whether its value is fine and what is allowed."""
        most = LARGEST_VOCABULARY
        return {
            "minutes": (0 <= self.minutes <= 100_000, "between 0 and 100000"),
            "steps": (self.steps >= -1, "-1 (use minutes), 0 (skip) or more"),
            "vocab_size": (0 <= self.vocab_size <= most, f"0 (own rule) to {most}"),
            "dtype": (self.dtype in ("auto", "float32", "bfloat16"), "auto, float32 or bfloat16"),
            "verify_bytes": (self.verify_bytes >= 1000, "at least 1000"),
            "max_text_bytes": (self.max_text_bytes >= 1000, "at least 1000"),
            "threads": (self.threads >= 0, "at least 0"),
        }

    def options_for(self, method: str) -> dict[str, Any]:
        """Return the options given for one method, without its name."""
        prefix = method + "."
        return {k[len(prefix) :]: v for k, v in self.options.items() if k.startswith(prefix)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrofitConfig(JobConfig):
    """Options of the main job.

    Attributes:
        learner: How the vocabulary is learned; see `jeton methods`. "auto" extends a BPE that has
            all bytes (byte-level or with byte fallback) and learns a new one for every other kind.
        drafter: Drafter of the speculative figures.
    """

    learner: str = "auto"
    drafter: str = "prompt_lookup"

    def learner_for(self, vocabulary: Vocabulary) -> str:
        """Return the name of the learner, "auto" resolved."""
        if self.learner != "auto":
            return self.learner
        try:
            check_extendable(vocabulary)
        except UnsupportedModelError:
            return "bpe"
        return "extend"
