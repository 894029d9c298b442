"""Multiple choice without token boundaries: the probability of a continuation, in bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.prompt import Prompt
from jeton.bytelm.score import score
from jeton.errors import ConfigError


@dataclass(frozen=True)
class Choice:
    """The best of some continuations.

    Attributes:
        index: Of the one with the highest score.
        logprobs: Of each, nats.
        per_byte: Of each, divided by its bytes.
    """

    index: int
    logprobs: list[float]
    per_byte: list[float]


def choice_logprob(
    byte_lm: ByteLM, context: Prompt, continuation: bytes | str, *, is_whole: bool = False
) -> float:
    """Return log P(context + continuation) - log P(context).

    Where the context ends (with a space or without, inside a token or not) makes no difference to
    what the whole is worth.

    Args:
        byte_lm: The model.
        context: What stands before.
        continuation: What is judged.
        is_whole: Whether the text must end behind it.
    """
    result = score(byte_lm, continuation, context)
    return result.string_logprob if is_whole else result.logprob


def choose(byte_lm: ByteLM, context: Prompt, continuations: Sequence[bytes | str]) -> Choice:
    """Return which continuation is the most probable.

    Raises:
        ConfigError: there are none, or an empty one.
    """
    data = [c.encode("utf-8", "surrogatepass") if isinstance(c, str) else c for c in continuations]
    if not data or not all(data):
        raise ConfigError(f"choices must be one or more non-empty texts, got {len(data)}")
    logprobs = [choice_logprob(byte_lm, context, one) for one in data]
    best = max(range(len(data)), key=lambda i: (logprobs[i], -i))
    per_byte = [logprob / len(one) for logprob, one in zip(logprobs, data, strict=True)]
    return Choice(best, logprobs, per_byte)
