"""From a prompt to ids, and the ids that end a text."""

from collections.abc import Sequence

from jeton.core.vocabulary import TokenKind
from jeton.errors import ConfigError, TokenizerMismatchError
from jeton.lm.load import LanguageModel


def prompt_ids(lm: LanguageModel, prompt: str | bytes | Sequence[int]) -> list[int]:
    """Return the ids that a prompt stands for; text begins as the tokenizer itself begins it.

    Raises:
        TokenizerMismatchError: given ids are out of range.
        EncodingError: the tokenizer cannot express the bytes.
        ConfigError: the prompt has no tokens at all.
    """
    if isinstance(prompt, (str, bytes)):
        ids = [*start_token_ids(lm), *lm.vocabulary.encode(prompt)]
    else:
        ids = [int(i) for i in prompt]
    bad = [i for i in ids if not 0 <= i < lm.vocabulary.vocab_size]
    if bad:
        raise TokenizerMismatchError(
            f"prompt id {bad[0]} is out of range; {lm.name} has ids 0 to "
            f"{lm.vocabulary.vocab_size - 1}"
        )
    if not ids:
        raise ConfigError("the prompt has no tokens", hint="give at least one byte of text")
    return ids


def start_token_ids(lm: LanguageModel) -> list[int]:
    """Return the special ids that the tokenizer puts before a text; often one BOS or none."""
    if lm.tokenizer is None:
        return []
    probe = lm.tokenizer("a")["input_ids"]
    special = int(TokenKind.SPECIAL)
    leading = []
    for token_id in probe:
        if lm.vocabulary.kinds[token_id] != special:
            break
        leading.append(int(token_id))
    return leading


def stop_token_ids(lm: LanguageModel) -> frozenset[int]:
    """Return the ids that end a text: the generation config's, else the vocabulary's."""
    configured = getattr(lm.model.generation_config, "eos_token_id", None)
    if configured is None:
        configured = lm.vocabulary.eos_token_id
    if configured is None:
        return frozenset()
    return frozenset(configured if isinstance(configured, list) else [configured])
