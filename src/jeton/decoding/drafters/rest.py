"""REST: draft what followed the last tokens in a datastore of text.

Source: He et al. 2023 (REST), https://arxiv.org/abs/2311.08252, section 3.2: longest suffix first,
a trie of the continuations, the most frequent ones.
Differs from the source: of many matches an even sample is read; without a match of two tokens
nothing is drafted.
Cost: some dozens of steps of a binary search and at most `max_matches` short reads per step.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from jeton.decoding.best_first import Children, grow
from jeton.decoding.contract import DraftContext, Step
from jeton.decoding.store import Datastore
from jeton.decoding.trie import Trie
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class REST:
    """Options of the drafter.

    Attributes:
        store: Path of a datastore (`jeton.decoding.store`), in the target's vocabulary.
        max_suffix: Longest context that is looked up.
        min_suffix: Shortest context that is trusted.
        max_matches: Most places that are read.
        branch_length: Longest continuation.
        datastore: The store itself, instead of a path.
    """

    store: str = ""
    max_suffix: int = 16
    min_suffix: int = 2
    max_matches: int = 64
    branch_length: int = 10
    datastore: Datastore | None = None

    needs: ClassVar[frozenset[str]] = frozenset()
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _last: list[int] = field(default_factory=list, init=False, repr=False)
    _vocab_size: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.min_suffix <= self.max_suffix:
            raise ConfigError(
                "rest needs 1 <= min_suffix <= max_suffix, "
                f"got {self.min_suffix} and {self.max_suffix}"
            )
        if self.max_matches < 1 or self.branch_length < 1:
            raise ConfigError("rest needs max_matches and branch_length of at least 1")

    def begin(self, context: DraftContext) -> None:
        """Open the store when that was not done before."""
        if self.datastore is None:
            if not self.store:
                raise ConfigError(
                    "rest needs a datastore",
                    hint="write one with jeton.decoding.store.Datastore and set store to its path",
                )
            self.datastore = Datastore.load(self.store)
        self._vocab_size = context.vocab_size
        self._last = list(context.token_ids)[-self.max_suffix :]

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return the most frequent continuations of the longest context that the store has."""
        store = self.datastore
        assert store is not None, "begin comes first"
        # What a suffix of n tokens has, one of n - 1 tokens has too: search for the longest.
        low, high = self.min_suffix - 1, len(self._last)
        best = None
        while low < high:
            middle = (low + high + 1) // 2
            found = store.find(self._last[-middle:])
            if len(found):
                low, best = middle, found
            else:
                high = middle - 1
        if best is None:
            return TokenTree.chain([])
        root = Trie()
        stride = -(-len(best) // self.max_matches)
        for start in best[::stride].tolist():
            node = root
            for token_id in store.continuation(start + low, self.branch_length):
                if token_id >= self._vocab_size:
                    break
                node = node.add(token_id)
        return grow(root, _children, num_draft_tokens, self.branch_length)

    def observe(self, step: Step) -> None:
        """Follow the text."""
        self._last = [*self._last, *step.token_ids][-self.max_suffix :]


def _children(node: Trie) -> Children:
    return node.children()
