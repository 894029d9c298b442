"""What a draft training is asked to do: one field per flag of `jeton draft train`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DraftTrainConfig:
    """Options of a training.

    Attributes:
        target: Folder or hub name of a causal LM, or "starter".
        text: Files and folders with text of the kind that will be generated.
        out: Folder to write; must not exist or be empty.
        method: How the draft is made; see `jeton methods`.
        held_out: Text for the figures only; empty takes a tenth of `text`.
        draft_model: Folder of the draft model, for methods that train one further.
        minutes: Time for training; turned into a number of steps at the start.
        steps: Number of steps; overrides `minutes` when not -1.
        measure_tokens: Held-out tokens that are decoded for the figures.
        seed: Of everything random.
        max_text_bytes: Most text that is read, in bytes.
        threads: CPU threads of torch; 0 leaves torch's own choice.
        options: Fields of the method, as "method.field=value" pairs.
    """

    target: str
    text: tuple[Path, ...]
    out: Path
    method: str = "hydra"
    held_out: tuple[Path, ...] = ()
    draft_model: str = ""
    minutes: float = 4.0
    steps: int = -1
    measure_tokens: int = 1024
    seed: int = 0
    max_text_bytes: int = 50_000_000
    threads: int = 0
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.text:
            raise ConfigError("no text was given", hint="add --text FILE_OR_FOLDER")
        checks: dict[str, tuple[bool, str]] = {
            "minutes": (0 < self.minutes <= 100_000, "above 0, at most 100000"),
            "steps": (self.steps == -1 or self.steps >= 1, "-1 (use minutes), or 1 or more"),
            "measure_tokens": (self.measure_tokens >= 1, "at least 1"),
            "max_text_bytes": (self.max_text_bytes >= 1000, "at least 1000"),
            "threads": (self.threads >= 0, "at least 0"),
        }
        for name, (is_fine, allowed) in checks.items():
            if not is_fine:
                raise ConfigError(f"{name} must be {allowed}, got {getattr(self, name)!r}")
        strays = [key for key in self.options if key.partition(".")[0] != self.method]
        if strays:
            raise ConfigError(f"--set {strays[0]} does not belong to {self.method}")

    @property
    def method_options(self) -> dict[str, Any]:
        """The options of the method by field."""
        return {key.partition(".")[2]: value for key, value in self.options.items()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "DraftTrainConfig":
        """Return the configuration that `run.json` holds.

        Raises:
            ConfigError: a field is unknown or missing.
        """
        values = dict(document)
        try:
            for name in ("text", "held_out"):
                values[name] = tuple(Path(path) for path in values[name])
            values["out"] = Path(values["out"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ConfigError(f"this run.json is not a draft training's: {error}") from error
