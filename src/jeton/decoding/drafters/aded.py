"""ADED: a tri-gram model that follows the target, drafted from by a tree search.

Source: Liu et al. 2024, https://arxiv.org/abs/2407.12021, sections 3.1 to 3.3: tri-gram matrix
replaced by the target's own distributions, draft by Monte Carlo tree search with PUCT scores.
Differs from the source: no start corpus, the tri-grams of the prompt instead; where a tri-gram is
unknown the bi-gram is used; the search ends when the budget is used or after 4 trials per node.
Cost: one top-k over the vocabulary per verified node, a few hundred dictionary steps per draft.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from jeton.decoding.contract import DraftContext, Step
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree

_TRIALS = 4  # per node of the budget; more change nothing, the search is deterministic


@dataclass(slots=True)
class ADED:
    """Options of the drafter.

    Attributes:
        num_candidates: Successors kept per tri-gram context.
        exploration: Weight of nodes that were seldom visited.
        max_depth: Longest path of a draft.
    """

    num_candidates: int = 8
    exploration: float = 1.0
    max_depth: int = 8

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _trigrams: dict[tuple[int, int], dict[int, float]] = field(
        default_factory=dict, init=False, repr=False
    )
    _bigrams: dict[int, dict[int, float]] = field(default_factory=dict, init=False, repr=False)
    _before: int = field(default=-1, init=False, repr=False)
    _last: int = field(default=-1, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_candidates < 1 or self.max_depth < 1 or self.exploration < 0:
            raise ConfigError(
                "aded needs num_candidates and max_depth of at least 1 and exploration of at "
                f"least 0, got {self.num_candidates}, {self.max_depth} and {self.exploration}"
            )

    def begin(self, context: DraftContext) -> None:
        """Count the prompt's tri-grams; what earlier texts taught stays."""
        counts: dict[tuple[int, int], dict[int, float]] = {}
        ids = [-1, *context.token_ids]
        for a, b, c in zip(ids, ids[1:], ids[2:], strict=False):
            row = counts.setdefault((a, b), {})
            row[c] = row.get(c, 0.0) + 1.0
        for (a, b), row in counts.items():
            total = sum(row.values()) + 1.0
            self._store(a, b, {c: count / total for c, count in row.items()})
        self._before, self._last = ids[-2], ids[-1]

    def observe(self, step: Step) -> None:
        """Replace the tri-grams of every verified node by the target's distribution."""
        assert step.logits is not None
        tree = step.tree
        count = min(self.num_candidates, step.logits.shape[-1])
        values, tokens = step.logits.softmax(-1).topk(count, dim=-1)
        rows = zip(tokens.tolist(), values.tolist(), strict=True)
        for node, (successors, shares) in enumerate(rows):
            parent = tree.parents[node]
            before = tree.token_ids[parent] if parent >= 0 else self._before
            self._store(before, tree.token_ids[node], dict(zip(successors, shares, strict=True)))
        root = tree.token_ids[0]
        self._before, self._last = [root, *step.token_ids][-2:]

    def _store(self, before: int, last: int, row: dict[int, float]) -> None:
        self._trigrams[before, last] = row
        self._bigrams[last] = row

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the nodes that the search visited, in the order of their discovery."""
        search = _Search(self, num_draft_tokens)
        for _ in range(_TRIALS * num_draft_tokens):
            if len(search.token_ids) == num_draft_tokens or not search.visit():
                break
        return TokenTree(search.token_ids, search.parents, search.logq)

    def row(self, before: int, last: int) -> dict[int, float]:
        """Return what is known about the token after two others."""
        return self._trigrams.get((before, last)) or self._bigrams.get(last, {})

    @property
    def start(self) -> tuple[int, int]:
        """The last two tokens of the context."""
        return self._before, self._last


class _Search:
    """One draft: nodes with visits and values; node i has the statistics i, the root -1."""

    def __init__(self, model: ADED, budget: int) -> None:
        self.model, self.budget = model, budget
        self.token_ids: list[int] = []
        self.parents: list[int] = []
        self.logq: list[float] = []
        self._visits: dict[int, int] = {-1: 0}
        self._values: dict[int, float] = {-1: 0.0}
        self._children: dict[int, dict[int, int]] = {-1: {}}

    def visit(self) -> bool:
        """Walk down by score until a new node is found; False when there is none to find."""
        node, path, value = -1, [-1], 1.0
        before, last = self.model.start
        for _ in range(self.model.max_depth):
            row = self.model.row(before, last)
            if not row:
                break
            token = max(row, key=lambda t: (self._score(node, t, row[t]), -t))
            value *= row[token]
            child = self._children[node].get(token)
            before, last = last, token
            if child is None:
                child = len(self.token_ids)
                self.token_ids.append(token)
                self.parents.append(node)
                self.logq.append(math.log(max(row[token], 1e-300)))
                self._visits[child], self._values[child] = 0, 0.0
                self._children[node][token] = child
                self._children[child] = {}
                self._back_up([*path, child], value)
                return True
            node = child
            path.append(node)
        self._back_up(path, value)
        return bool(self.token_ids)

    def _score(self, node: int, token: int, share: float) -> float:
        """Return PUCT: the mean value so far, and more for what is likely and seldom visited."""
        child = self._children[node].get(token)
        visits = self._visits[child] if child is not None else 0
        mean = self._values[child] / visits if child is not None and visits else 0.0
        explore = share * math.sqrt(self._visits[node] + 1) / (1 + visits)
        return mean + self.model.exploration * explore

    def _back_up(self, path: list[int], value: float) -> None:
        for node in path:
            self._visits[node] += 1
            self._values[node] += value
