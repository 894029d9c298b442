"""RAPID: of a long prompt, the draft model reads only the pieces that matter now.

Source: Chen et al. 2025, https://arxiv.org/abs/2502.20330, section 3.1: the draft model works on a
retrieved, shorter context; it may be as large as the target, or the target itself.
Differs from the source: pieces are retrieved once, by BM25 over tokens instead of embeddings, with
the end of the prompt as the query; the target's distribution is not blended with the draft's
(section 3.2), so that the output stays the target's own.
Cost: one forward of the draft model per drafted token, over a context of `budget` tokens.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jeton.decoding.chance import Chance
from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.draft_state import DraftState
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree

_K1, _B = 1.5, 0.75  # the usual constants of BM25


@dataclass(slots=True)
class RAPID:
    """Options of the drafter.

    Attributes:
        budget: Tokens of the prompt that the draft model reads.
        piece: Tokens per piece that is retrieved.
        query: Tokens at the end of the prompt that are always read, and ask for the pieces.
        min_confidence: Stop before a token whose most likely value has a lower probability.
        chance: The source of random draws; None makes one from the seed.
    """

    budget: int = 512
    piece: int = 64
    query: int = 128
    min_confidence: float = 0.4
    chance: Chance | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"draft_model"})
    makes_trees: ClassVar[bool] = False
    fixes_draws: ClassVar[bool] = True

    _state: DraftState | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.piece < 1 or self.query < 1 or self.budget < self.query:
            raise ConfigError(
                "rapid needs piece and query of at least 1 and a budget not below query, got "
                f"{self.piece}, {self.query} and {self.budget}"
            )
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence must be in [0, 1], got {self.min_confidence}")

    def begin(self, context: DraftContext) -> None:
        """Retrieve, and start with an empty cache."""
        full = list(context.token_ids)
        short = retrieve(full, budget=self.budget, piece=self.piece, query=self.query)
        short_context = replace(context, token_ids=short)
        self._state = DraftState(short_context, self.chance, skipped=len(full) - len(short))

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the chain that the draft model writes after the shorter context."""
        assert self._state is not None, "begin comes first"
        return self._state.chain(
            num_draft_tokens, lambda law: float(law.max()) >= self.min_confidence
        )

    def observe(self, step: Step) -> None:
        """Follow the target."""
        assert self._state is not None
        self._state.observe(step)


def retrieve(token_ids: Sequence[int], *, budget: int, piece: int, query: int) -> list[int]:
    """Return the end of a prompt, and before it the pieces that share the most with it, in order.

    Example:
        >>> retrieve([7, 7, 1, 2, 8, 8, 2, 1], budget=4, piece=2, query=2)
        [1, 2, 2, 1]
    """
    ids = list(token_ids)
    if len(ids) <= budget:
        return ids
    asked = Counter(ids[-query:])
    before = ids[:-query]
    pieces = [before[start : start + piece] for start in range(0, len(before), piece)]
    counts = [Counter(part) for part in pieces]
    scores = _bm25(asked, counts)
    order = sorted(range(len(pieces)), key=lambda index: (-scores[index], index))
    left = budget - query
    chosen = []
    for index in order:
        if len(pieces[index]) <= left:
            chosen.append(index)
            left -= len(pieces[index])
    return [i for index in sorted(chosen) for i in pieces[index]] + ids[-query:]


def _bm25(asked: Counter[int], pieces: list[Counter[int]]) -> list[float]:
    """Return the BM25 score of each piece."""
    lengths = [sum(piece.values()) for piece in pieces]
    mean = sum(lengths) / max(1, len(pieces))
    found_in = Counter(token for piece in pieces for token in piece)
    scores = []
    for piece, length in zip(pieces, lengths, strict=True):
        score = 0.0
        for token in asked:
            count = piece.get(token, 0)
            if count:
                share = (len(pieces) - found_in[token] + 0.5) / (found_in[token] + 0.5)
                weight = count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * length / mean))
                score += math.log(1 + share) * weight
        scores.append(score)
    return scores
