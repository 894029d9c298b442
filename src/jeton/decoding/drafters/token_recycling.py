"""Token Recycling: an adjacency matrix of the candidates that the target itself gave before.

Source: Luo et al. 2024, https://arxiv.org/abs/2408.08696, sections 3.1 to 3.3; 8 candidates.
Differs from the source: the tree is not a fixed template but grown for each budget from the
acceptance frequency of each rank, counted while decoding; the bigrams of the prompt are candidates
too. The matrix outlives a text, as in the source.
Cost: one top-k over the vocabulary per verified node, some look-ups per drafted one.
"""

import itertools
from dataclasses import dataclass, field
from typing import ClassVar

from jeton.decoding.best_first import Children, grow
from jeton.decoding.contract import DraftContext, Step
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree

# Acceptance by rank before anything was counted, and the weight of that guess in tries.
_FIRST_GUESS = (0.45, 0.12, 0.07, 0.045, 0.03, 0.025, 0.02, 0.015)
_GUESS_WEIGHT = 20.0


@dataclass(slots=True)
class TokenRecycling:
    """Options of the drafter.

    Attributes:
        num_candidates: Successors kept per token.
        max_depth: Longest path of a draft.
    """

    num_candidates: int = 8
    max_depth: int = 6

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _matrix: dict[int, list[int]] = field(default_factory=dict, init=False, repr=False)
    _tries: list[float] = field(default_factory=list, init=False, repr=False)
    _hits: list[float] = field(default_factory=list, init=False, repr=False)
    _last: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_candidates < 1 or self.max_depth < 1:
            raise ConfigError(
                "token_recycling needs num_candidates and max_depth of at least 1, "
                f"got {self.num_candidates} and {self.max_depth}"
            )
        guess = [*_FIRST_GUESS, *[0.01] * self.num_candidates][: self.num_candidates]
        self._tries = [_GUESS_WEIGHT] * self.num_candidates
        self._hits = [_GUESS_WEIGHT * share for share in guess]

    def begin(self, context: DraftContext) -> None:
        """Read the prompt's bigrams; the matrix of earlier texts stays."""
        ids = context.token_ids
        for token, successor in itertools.pairwise(ids):
            row = self._matrix.setdefault(token, [])
            if successor in row:
                row.remove(successor)
            row.insert(0, successor)
            del row[self.num_candidates :]
        self._last = ids[-1]

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the tree that walks the matrix from the last token, best ranks first."""
        shares = [hit / tried for hit, tried in zip(self._hits, self._tries, strict=True)]
        for rank in range(1, len(shares)):  # a chance run must not put a rank before a better one
            shares[rank] = min(shares[rank], shares[rank - 1])

        def expand(token: int) -> Children:
            row = self._matrix.get(token, ())
            return [(t, shares[rank], t) for rank, t in enumerate(row)]

        return grow(self._last, expand, num_draft_tokens, self.max_depth)

    def observe(self, step: Step) -> None:
        """Count which ranks held, then replace the rows of every verified node."""
        assert step.logits is not None
        tree = step.tree
        spoken = [*(tree.token_ids[node] for node in step.accepted), step.token_ids[-1]]
        for token, successor in itertools.pairwise(spoken):
            row = self._matrix.get(token)
            if row:
                for rank in range(len(row)):
                    self._tries[rank] += 1
                if successor in row:
                    self._hits[row.index(successor)] += 1
        count = min(self.num_candidates, step.logits.shape[-1])
        best = step.logits.topk(count, dim=-1).indices.tolist()
        for token, row in zip(tree.token_ids, best, strict=True):
            self._matrix[token] = row
        self._last = step.token_ids[-1]
