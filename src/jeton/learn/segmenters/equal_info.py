"""Equal-Info Windows: cut the bytes into windows that a small model writes in equally many bits.

Source: Lester et al. 2024, https://arxiv.org/abs/2404.03626, section 3.3: model and coder are reset
at each window, which takes bytes as long as they fit; b = 16 bits were best.
Differs from the source: the model is a table of byte frequencies after the last two bytes instead
of a transformer, in integers, so that decoding is exact anywhere; the coder divides the 2^b words
of a window, of which one per step says that the window ends there. A window is reset, so that
each word stands for fixed bytes, like a token.
Cost: a few hundred nanoseconds per byte; 4,096 contexts of two bytes take 8 MB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.compiling import compiled
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, InputError, TokenizerMismatchError
from jeton.learn.segmentation import Segmentation
from jeton.learn.splits import checked, reserved_ids

_SCALE = 1 << 20


@dataclass(frozen=True)
class ByteModel:
    """Cumulative frequencies of the next byte; integers, so that they are the same everywhere.

    Attributes:
        context: For the last two bytes (256 * before + last), one
            byte (65536 + last) and of the start (65792): its row, shape (65793,), int64.
        cumulative: For each row, shape (rows, 257), int64, from 0 to `_SCALE`.
    """

    context: NDArray[np.int64]
    cumulative: NDArray[np.int64]

    @classmethod
    def fit(cls, data: bytes, max_contexts: int = 4096) -> "ByteModel":
        """Count the bytes of a text after its most frequent contexts of two bytes, and of one.

        Raises:
            InputError: the text is empty.
        """
        text = np.frombuffer(data, dtype=np.uint8).astype(np.int64)
        if not len(text):
            raise InputError("the text is empty", hint="give text to fit the byte model to")
        zero = np.bincount(text, minlength=256).astype(np.float64)
        one = np.zeros((256, 256))
        np.add.at(one, (text[:-1], text[1:]), 1)
        key = text[:-2] * 256 + text[1:-1]
        uses = np.bincount(key, minlength=65536)
        order = np.lexsort((np.arange(65536), -uses))[:max_contexts]
        kept = np.sort(order[uses[order] >= 32])
        one_byte = 1 + np.arange(256)  # rows: the start, after one byte, after two
        context = np.concatenate([np.tile(one_byte, 256), one_byte, [0]])
        context[kept] = 257 + np.arange(len(kept))
        two = np.zeros((len(kept), 256))
        is_kept = np.isin(key, kept)
        np.add.at(two, (context[key[is_kept]] - 257, text[2:][is_kept]), 1)
        start = (zero + 0.01) / (zero + 0.01).sum()
        middle = (one + 4 * start) / (one.sum(1, keepdims=True) + 4)
        last = (two + 4 * middle[kept % 256]) / (two.sum(1, keepdims=True) + 4)
        return cls(context, _integers(np.concatenate([start[None], middle, last])))

    def encode(self, data: bytes, bits: int = 16) -> NDArray[np.int64]:
        """Return the words of the windows, shape (windows,), each below 2^bits."""
        text = np.frombuffer(data, dtype=np.uint8)
        out = np.zeros(len(text) + 1, dtype=np.int64)
        return out[: _encode(text, 1 << bits, self.context, self.cumulative, out)].copy()

    def decode(self, words: Sequence[int] | NDArray[np.int64], bits: int = 16) -> bytes:
        """Return the bytes of the words.

        Raises:
            TokenizerMismatchError: a word is out of range.
        """
        given = np.asarray(words, dtype=np.int64)
        if len(given) and not 0 <= given.min() <= given.max() < 1 << bits:
            raise TokenizerMismatchError(f"words must lie between 0 and {(1 << bits) - 1}")
        # Each byte takes at least one word away, so that no window is longer than 2^bits.
        out, found = np.zeros(1 << bits, dtype=np.uint8), []
        for word in given:
            size = _decode(word, 1 << bits, self.context, self.cumulative, out)
            found.append(out[:size].tobytes())
        return b"".join(found)


def _integers(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return cumulative integer frequencies of rows, each at least 1 at the scale."""
    spare = _SCALE - 256 * 32
    counts = 32 + np.floor(probabilities * spare).astype(np.int64)
    counts[np.arange(len(counts)), counts.argmax(1)] += _SCALE - counts.sum(1)
    cumulative = np.zeros((len(counts), 257), dtype=np.int64)
    np.cumsum(counts, axis=1, out=cumulative[:, 1:])
    return cumulative


@dataclass(frozen=True, slots=True)
class EqualInfo:
    """Windows of equal information, by a byte model fitted to the documents themselves.

    Attributes:
        bits: Size of a window's word; 16 was best in the paper.
        max_contexts: Contexts of two bytes that the model knows.
    """

    bits: int = 16
    max_contexts: int = 4096

    def __post_init__(self) -> None:
        if not 16 <= self.bits <= 24:
            raise ConfigError(f"bits must lie between 16 and 24, got {self.bits}")
        if self.max_contexts < 0:
            raise ConfigError(f"max_contexts must be 0 or more, got {self.max_contexts}")

    def segment(
        self,
        vocabulary: Vocabulary,
        documents: Sequence[Sequence[int] | NDArray[np.int64]],
        seed: int = 0,
    ) -> Segmentation:
        """Return the documents as words, numbered from `vocab_size` on as they are first used."""
        batch = checked(documents, vocabulary.vocab_size)
        reserved = reserved_ids(vocabulary)
        runs = [_runs(ids.tolist(), vocabulary, reserved) for ids in batch]
        plain = b"".join(part for parts in runs for part in parts if isinstance(part, bytes))
        if not plain:
            return Segmentation(batch)
        model = ByteModel.fit(plain, self.max_contexts)
        number: dict[int, int] = {}
        result = []
        for parts in runs:
            out: list[int] = []
            for part in parts:
                if isinstance(part, int):
                    out.append(part)
                    continue
                for word in model.encode(part, self.bits).tolist():
                    out.append(number.setdefault(word, vocabulary.vocab_size + len(number)))
            result.append(np.array(out, dtype=np.int64))
        return Segmentation(result, tuple(model.decode([word], self.bits) for word in number))


def _runs(ids: list[int], vocabulary: Vocabulary, reserved: set[int]) -> list[bytes | int]:
    """Return the bytes between special tokens, and the special tokens."""
    parts: list[bytes | int] = []
    run: list[bytes] = []
    for token_id in [*ids, -1]:
        if token_id >= 0 and token_id not in reserved:
            run.append(vocabulary.tokens[token_id])
            continue
        if run:
            parts.append(b"".join(run))
        run = []
        if token_id >= 0:
            parts.append(token_id)
    return parts


@compiled
def _encode(text: Any, num_words: Any, context: Any, cumulative: Any, out: Any) -> Any:
    """Write the words; the root gives every byte at least one word, so that each window moves."""
    i = 0
    size = 0
    place: Any
    while i < len(text):
        low, width, place = 0, num_words, 65792
        while i < len(text):
            row = context[place]
            byte = np.int64(text[i])
            first = (width - 1) * cumulative[row, byte] // _SCALE
            last = (width - 1) * cumulative[row, byte + 1] // _SCALE
            if first == last:
                break
            low += 1 + first
            width = last - first
            place = 65536 + byte if place >= 65792 else (place & 255) * 256 + byte
            i += 1
        out[size] = low  # the first word of a range says that the window ends here
        size += 1
    return size


@compiled
def _decode(word: Any, num_words: Any, context: Any, cumulative: Any, out: Any) -> Any:
    """Write the bytes of one word; return how many there are."""
    low, width, place = 0, num_words, 65792
    size = 0
    while word > low:
        row = context[place]
        left, right = 0, 256  # the last byte whose words begin at or before this one
        while right - left > 1:
            middle = (left + right) // 2
            if low + 1 + (width - 1) * cumulative[row, middle] // _SCALE <= word:
                left = middle
            else:
                right = middle
        first = (width - 1) * cumulative[row, left] // _SCALE
        width = (width - 1) * cumulative[row, left + 1] // _SCALE - first
        low += 1 + first
        place = 65536 + left if place >= 65792 else (place & 255) * 256 + left
        out[size] = left
        size += 1
    return size
