"""Counted continuations: how often each token followed a path."""

from collections.abc import Sequence

from jeton.decoding.best_first import Children


class Trie:
    """A node: how often it was reached, and what followed."""

    __slots__ = ("below", "count")

    def __init__(self) -> None:
        self.count = 0
        self.below: dict[int, Trie] = {}

    def add(self, token_id: int) -> "Trie":
        """Count one child and return it."""
        child = self.below.get(token_id)
        if child is None:
            child = self.below[token_id] = Trie()
        child.count += 1
        return child

    def find(self, path: Sequence[int]) -> "Trie | None":
        """Return the node at the end of a path, None when it was never seen."""
        node: Trie | None = self
        for token_id in path:
            node = node.below.get(token_id) if node is not None else None
        return node

    def children(self) -> Children:
        """Return what followed, most frequent first; ties take the lowest id."""
        total = sum(child.count for child in self.below.values())
        ranked = sorted(self.below.items(), key=lambda item: (-item[1].count, item[0]))
        # One more than was seen: what never followed may follow now.
        return [(token, child.count / (total + 1), child) for token, child in ranked]
