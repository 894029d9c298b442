"""Encode many texts as the tokenizer itself would, lossy or not, and show tokens to people."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from jeton.core.vocabulary import StartRule, Vocabulary
from jeton.errors import InputError

_BATCH_CHARS = 2_000_000  # bounds the memory that the engine's results take before they are packed


def encode_all(vocabulary: Vocabulary, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
    """Return the ids of each text, as ordinary text, without BOS or other additions.

    Raises:
        InputError: a text holds a lone surrogate, which UTF-8 cannot write.
    """
    _check_unicode(texts)
    if vocabulary.source.takes_bytes:
        return [np.array(vocabulary.encode_lossy(text), dtype=np.int32) for text in texts]
    return [
        np.array(ids, dtype=np.int32)
        for batch in _batches(texts)
        for ids in vocabulary.source.encode_batch(batch)
    ]


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_unicode(texts: Sequence[str]) -> None:
    for index, text in enumerate(texts):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"text {index} holds the lone surrogate {text[error.start]!r} "
                    f"at character {error.start}",
                    hint="read files with errors='replace', or leave such texts out",
                ) from error


def token_bytes(vocabulary: Vocabulary, token_ids: Sequence[int]) -> list[bytes]:
    """Return the bytes of each token; special tokens show their names."""
    names = {i: name.encode() for name, i in vocabulary.special_tokens.items()}
    return [vocabulary.tokens[i] or names.get(i, b"") for i in token_ids]


def readable(token: bytes) -> str:
    """Return a token as people read it: text where it is UTF-8, else escaped bytes.

    Example:
        >>> readable(b" the"), readable(bytes([0xe2, 0x80])) == chr(92) + "xe2" + chr(92) + "x80"
        (' the', True)
    """
    return token.decode("utf-8", errors="backslashreplace")


def cut_word(vocabulary: Vocabulary, word: str) -> list[bytes]:
    """Return the tokens of a word inside a sentence, without the space before it.

    Example: " library" cut as " lib|rary" gives [b"lib", b"rary"].
    """
    has_start_rule = vocabulary.start_rule is not StartRule.NONE
    ids = vocabulary.encode_lossy(word if has_start_rule else f" {word}")
    pieces = [vocabulary.tokens[i] for i in ids]
    if pieces and pieces[0][:1] == b" ":
        pieces[0] = pieces[0][1:]
    return [piece for piece in pieces if piece]
