"""The rule of BPE without a pre-tokenizer: the whole text is one pretoken."""

from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from jeton.bytelm.contract import BoolArray
from jeton.bytelm.pairs import Pairs
from jeton.core.vocabulary import TokenKind, Vocabulary


class ChainRule:
    """A token may follow the last one where BPE leaves the two apart; a state is the last id."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Derive every token of a byte-level vocabulary."""
        symbols = (vocabulary.lengths == 1) & (vocabulary.kinds != TokenKind.SPECIAL)
        self.pairs = Pairs(vocabulary.merges, np.asarray(symbols), vocabulary.lengths)
        self._valid_after = lru_cache(maxsize=4096)(self.pairs.valid_after)

    def start(self) -> Hashable:
        """Return the state before the first token."""
        return -1

    def step(self, state: Hashable, token_id: int) -> Hashable:
        """Return the state after one more token."""
        return token_id

    def mask(self, state: Hashable) -> tuple[BoolArray, bool]:
        """Return which tokens may follow, and that the text may end."""
        assert isinstance(state, int)
        return (self.pairs.is_built if state < 0 else self._valid_after(state)), True

    def allows(self, state: Hashable, token_id: int) -> bool:
        """Return whether one token may follow."""
        return bool(self.mask(state)[0][token_id])
