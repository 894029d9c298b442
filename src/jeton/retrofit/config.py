"""What a retrofit is asked to do: one field per flag of `jeton retrofit`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jeton.core.vocabulary import ModelKind, Vocabulary
from jeton.errors import ConfigError


class TextSettings(Protocol):
    """Which text a run reads, and how much of it."""

    @property
    def text(self) -> tuple[Path, ...]:
        """The user's own."""
        ...

    @property
    def held_out(self) -> tuple[Path, ...]:
        """For verification only."""
        ...

    @property
    def general(self) -> tuple[Path, ...]:
        """Against forgetting, and to show it."""
        ...

    @property
    def max_text_bytes(self) -> int:
        """Most text that is read."""
        ...

    @property
    def verify_bytes(self) -> int:
        """Most held-out text that is scored."""
        ...


class HealingSettings(Protocol):
    """How a model is moved and healed."""

    @property
    def init(self) -> str:
        """How new rows start."""
        ...

    @property
    def heal(self) -> str:
        """How the model is trained on them."""
        ...

    @property
    def minutes(self) -> float:
        """Time for healing."""
        ...

    @property
    def steps(self) -> int:
        """Steps instead of minutes, unless -1."""
        ...

    @property
    def dtype(self) -> str:
        """Of the written model."""
        ...

    @property
    def seed(self) -> int:
        """Of everything random."""
        ...

    def options_for(self, method: str) -> dict[str, Any]:
        """Return the options given for one method."""
        ...


@dataclass(frozen=True, slots=True)
class RetrofitConfig:
    """Options of the main job.

    Attributes:
        model: Folder or hub name of a causal LM, or "starter".
        text: Files and folders with the user's own text.
        out: Folder to write; must not exist or be empty.
        held_out: Text for verification only; empty takes a tenth of `text`.
        general: General text: part of it is mixed into healing, the rest shows forgetting.
        learner: How the vocabulary is learned; see `jeton methods`. "auto" extends a byte-level
            BPE and learns a new one for every other kind.
        vocab_size: Size of the new vocabulary; 0 takes the learner's default.
        init: How new rows start.
        heal: How the model is trained on them.
        minutes: Time for healing; turned into a number of steps at the start.
        steps: Number of healing steps; overrides `minutes` when not -1, 0 skips healing.
        drafter: Drafter of the speculative figures.
        dtype: Numbers of the written model: auto keeps the source's.
        seed: Of everything random.
        max_text_bytes: Most text that is read for learning, in bytes.
        verify_bytes: Most held-out text that bits per byte are measured on, in bytes.
        threads: CPU threads of torch; 0 leaves torch's own choice.
        options: Fields of the chosen methods, as "method.field=value" pairs.
    """

    model: str
    text: tuple[Path, ...]
    out: Path
    held_out: tuple[Path, ...] = ()
    general: tuple[Path, ...] = ()
    learner: str = "auto"
    vocab_size: int = 0
    init: str = "mean"
    heal: str = "cross_entropy"
    minutes: float = 10.0
    steps: int = -1
    drafter: str = "prompt_lookup"
    dtype: str = "auto"
    seed: int = 0
    max_text_bytes: int = 200_000_000
    verify_bytes: int = 300_000
    threads: int = 0
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.text:
            raise ConfigError("no text was given", hint="add --text FILE_OR_FOLDER")
        checks: dict[str, tuple[bool, str]] = {
            "minutes": (0 <= self.minutes <= 100_000, "between 0 and 100000"),
            "steps": (self.steps >= -1, "-1 (use minutes), 0 (skip) or more"),
            "vocab_size": (0 <= self.vocab_size <= 4_000_000, "0 (default) to 4000000"),
            "dtype": (self.dtype in ("auto", "float32", "bfloat16"), "auto, float32 or bfloat16"),
            "verify_bytes": (self.verify_bytes >= 1000, "at least 1000"),
            "max_text_bytes": (self.max_text_bytes >= 1000, "at least 1000"),
            "threads": (self.threads >= 0, "at least 0"),
        }
        for name, (is_fine, allowed) in checks.items():
            if not is_fine:
                raise ConfigError(f"{name} must be {allowed}, got {getattr(self, name)!r}")

    def learner_for(self, vocabulary: Vocabulary) -> str:
        """Return the name of the learner, "auto" resolved."""
        if self.learner != "auto":
            return self.learner
        return "extend" if vocabulary.model_kind == ModelKind.BYTE_LEVEL_BPE else "bpe"

    def options_for(self, method: str) -> dict[str, Any]:
        """Return the options given for one method, without its name."""
        prefix = method + "."
        return {k[len(prefix) :]: v for k, v in self.options.items() if k.startswith(prefix)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "RetrofitConfig":
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
            raise ConfigError(f"this run.json is not a retrofit's: {error}") from error
