"""The tokens of a vocabulary in order of bytes, with what the stems ask of them."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from jeton.bytelm.contract import BoolArray, FloatArray
from jeton.core.byte_index import ByteIndex
from jeton.core.vocabulary import StartRule, TokenKind, Vocabulary
from jeton.errors import ConfigError

_MAX_CACHED = 200_000  # ranges; texts of one language use a few thousand


class Lexicon:
    """Ranges of tokens by their bytes.

    Attributes:
        vocabulary: Where the bytes come from.
        ids: Token ids in order of bytes, shape (tokens,), int64; special tokens have none.
        lengths: Bytes of each of them, shape (tokens,), int64.
        eos_ids: Ids that end a text.
        strips_space: Whether a text's bytes are those of its tokens without one leading space.
    """

    def __init__(self, vocabulary: Vocabulary, eos_ids: Iterable[int] | None = None) -> None:
        self.vocabulary = vocabulary
        self._index = ByteIndex(vocabulary)
        self.ids = self._index.ids
        self.lengths = self._index.lengths
        if eos_ids is None:
            eos_ids = [] if vocabulary.eos_token_id is None else [vocabulary.eos_token_id]
        self.eos_ids = np.array(sorted(eos_ids), dtype=np.int64)
        for token_id in self.eos_ids.tolist():
            if not 0 <= token_id < vocabulary.vocab_size or vocabulary.tokens[token_id]:
                raise ConfigError(
                    f"id {token_id} cannot end a text: it is no special token of {vocabulary.name}"
                )
        self.strips_space = vocabulary.start_rule is not StartRule.NONE
        self._cached: dict[tuple[int, int, int], tuple[npt.NDArray[np.int64], ...]] = {}

    @property
    def special_ids(self) -> list[int]:
        """Ids of special tokens."""
        kinds = self.vocabulary.kinds
        return np.flatnonzero(kinds == TokenKind.SPECIAL).tolist()

    def bounds(self, low: int, high: int, depth: int) -> npt.NDArray[np.int64]:
        """Return where the next bytes begin in a range, shape (257,); see `next_byte_bounds`."""
        return self._cut(low, high, depth)[0]

    def _cut(self, low: int, high: int, depth: int) -> tuple[npt.NDArray[np.int64], ...]:
        key = (low, high, depth)
        found = self._cached.get(key)
        if found is None:
            bounds = self._index.next_byte_bounds(low, high, depth)
            used = np.flatnonzero(bounds[1:] > bounds[:-1])
            found = (bounds, used, bounds[used])
            if len(self._cached) >= _MAX_CACHED:
                self._cached.clear()
            self._cached[key] = found
        return found

    def first_longer(self, low: int, high: int, depth: int) -> int:
        """Return where the tokens longer than `depth` bytes begin in a range of equal prefixes."""
        if low < high and self.lengths[low] > depth:
            return low
        return low + int(np.searchsorted(self.lengths[low:high], depth, side="right"))

    def byte_sums(self, p: FloatArray, low: int, high: int, depth: int) -> FloatArray:
        """Add up probabilities by the byte that follows the common prefix.

        Args:
            p: By place in the order of bytes, shape (tokens,).
            low: Start of a range of tokens longer than `depth` that share their first bytes.
            high: Its end.
            depth: Length of the shared prefix.
        Returns:
            Shape (256,).
        """
        sums = np.zeros(256)
        _, used, starts = self._cut(low, high, depth)
        if len(used):
            sums[used] = np.add.reduceat(p[:high], starts)
        return sums

    def places(self, mask: BoolArray) -> BoolArray:
        """Return a mask over ids in the order of bytes."""
        return mask[self.ids]

    def text_of(self, path: Sequence[int]) -> bytes:
        """Return the bytes of a text's tokens."""
        return self.vocabulary.decode(list(path))
