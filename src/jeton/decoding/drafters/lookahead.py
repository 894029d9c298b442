"""Lookahead: a trie of all branches of the text so far; several continuations of the last tokens.

Source: Zhao et al. 2023, https://arxiv.org/abs/2312.12728, sections 3.2 and 4.2: trie retrieval
with frequencies, several branches per draft; branch length 12.
Differs from the source: branches of the prompt and of the output count alike, one trie per text;
the tree is grown by estimated acceptance. Contexts longer than `max_prefix` are not tried.
Cost: `branch_length` dictionary steps per token, no model call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from jeton.decoding.best_first import Children, grow
from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.trie import Trie
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class Lookahead:
    """Options of the drafter.

    Attributes:
        max_prefix: Longest context that is looked up first.
        min_prefix: Shortest context that is trusted.
        branch_length: Longest context and continuation that is stored.
    """

    max_prefix: int = 4
    min_prefix: int = 1
    branch_length: int = 12

    needs: ClassVar[frozenset[str]] = frozenset()
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _root: Trie = field(default_factory=Trie, init=False, repr=False)
    _open: list[Trie] = field(default_factory=list, init=False, repr=False)
    _last: list[int] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.min_prefix <= self.max_prefix < self.branch_length:
            raise ConfigError(
                "lookahead needs 1 <= min_prefix <= max_prefix < branch_length, "
                f"got {self.min_prefix}, {self.max_prefix} and {self.branch_length}"
            )

    def begin(self, context: DraftContext) -> None:
        """Store the prompt's branches."""
        self._root, self._open, self._last = Trie(), [], []
        self._extend(context.token_ids)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the most frequent continuations of the longest known context."""
        for length in range(min(self.max_prefix, len(self._last)), self.min_prefix - 1, -1):
            node = self._root.find(self._last[-length:])
            if node is not None and node.below:
                depth = self.branch_length - length
                return grow(node, _children, num_draft_tokens, depth)
        return TokenTree.chain([])

    def observe(self, step: Step) -> None:
        """Store what was decided."""
        self._extend(step.token_ids)

    def _extend(self, token_ids: Sequence[int]) -> None:
        for token_id in token_ids:
            # A branch starts at every token; each open one grows by this token.
            self._open = [node.add(token_id) for node in [*self._open, self._root]]
            del self._open[: max(0, len(self._open) - self.branch_length + 1)]
        self._last = [*self._last, *token_ids][-self.max_prefix :]


def _children(node: Trie) -> Children:
    return node.children()
