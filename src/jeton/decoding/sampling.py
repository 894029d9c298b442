"""How the next token is drawn from the target's logits."""

from dataclasses import dataclass, fields

from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn from the target's logits.

    Attributes:
        temperature: 0 is greedy.
        top_k: Keep the k most likely tokens; 0 keeps all.
        top_p: Keep the smallest set with this probability, in (0, 1].
        min_p: Drop tokens less likely than this share of the most likely one, in [0, 1).
        repetition_penalty: Divide (multiply) positive (negative) logits of tokens seen before.
        seed: Of the noise; the same seed gives the same text with any drafter.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        endless = float("inf")
        allowed = {
            "temperature": (0 <= self.temperature < endless, "finite and at least 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
            "min_p": (0 <= self.min_p < 1, "in [0, 1)"),
            "repetition_penalty": (0 < self.repetition_penalty < endless, "finite and above 0"),
        }
        for name, (is_fine, text) in allowed.items():
            if not is_fine:
                default = next(f.default for f in fields(self) if f.name == name)
                raise ConfigError(
                    f"{name} must be {text}, got {getattr(self, name)}",
                    hint=f"leave it out for {default}",
                )

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the next token is the argmax of the raw logits."""
        return self.temperature == 0 and self.repetition_penalty == 1.0
