"""A prompt as parts: text in bytes, and special tokens, which are hard boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass

from jeton.core.registry import did_you_mean
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Special:
    """A special token by its content, as in `Special("<|fim_prefix|>")`."""

    content: str


Part = bytes | str | Special
Prompt = bytes | str | Sequence[Part]


def read_parts(vocabulary: Vocabulary, prompt: Prompt) -> tuple[list[int], bytes]:
    """Return the ids of all that a special token closes, and the open text behind it.

    Raises:
        ConfigError: a special token that the vocabulary has not.
        EncodingError: text before a special token that the tokenizer cannot write.

    Example:
        >>> from jeton.testing.bytelm import END_TOKEN, toy_vocabulary
        >>> vocabulary = toy_vocabulary(["a", "b", "ab"], [("a", "b")])
        >>> read_parts(vocabulary, ["ab", Special(END_TOKEN), "a"])
        ([2, 3], b'a')
    """
    if isinstance(prompt, (bytes, str, Special)):
        prompt = [prompt]
    ids: list[int] = []
    text = b""
    for part in prompt:
        if isinstance(part, Special):
            if text:
                ids += vocabulary.encode(text)
                text = b""
            ids.append(special_id(vocabulary, part.content))
        else:
            text += part.encode("utf-8", "surrogatepass") if isinstance(part, str) else bytes(part)
    return ids, text


def special_id(vocabulary: Vocabulary, content: str) -> int:
    """Return the id of a special token.

    Raises:
        ConfigError: there is none of this content.
    """
    found = vocabulary.special_tokens.get(content)
    if found is None:
        known = sorted(vocabulary.special_tokens)
        raise ConfigError(
            f"{vocabulary.name} has no special token {content!r}",
            hint=did_you_mean(content, known) or f"it has: {', '.join(known[:8]) or 'none'}",
        )
    return found
