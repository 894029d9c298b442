"""Token trees: several possible continuations of one prefix, flat, parents before children."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jeton.errors import ConfigError

Key = tuple[int, int]  # (parent node, token id)


@dataclass(frozen=True)
class TokenTree:
    """Continuations of a prefix as a flat list of nodes; parents stand before their children.

    Attributes:
        token_ids: The token of each node, shape (nodes,).
        parents: The index of each node's parent, shape (nodes,); -1 is the end of the prefix.
        logq: The drafter's logprob (nats) of each node given its path, shape (nodes,), or None.
        source: Which drafter proposed each node, shape (nodes,), or None.

    Example:
        >>> tree = TokenTree.from_paths([[5, 6], [5, 7], [8]])
        >>> tree.token_ids, tree.parents, tree.depths
        ([5, 6, 7, 8], [-1, 0, 0, -1], [0, 1, 1, 0])
        >>> tree.path_to(2)
        [0, 2]
    """

    token_ids: list[int]
    parents: list[int]
    logq: list[float] | None = None
    source: list[int] | None = None

    def __post_init__(self) -> None:
        num_nodes = len(self.token_ids)
        for name in ("parents", "logq", "source"):
            value = getattr(self, name)
            if value is not None and len(value) != num_nodes:
                raise ConfigError(
                    f"a tree of {num_nodes} token ids has {len(value)} {name}; they must be as many"
                )
        for node, parent in enumerate(self.parents):
            if not -1 <= parent < node:
                raise ConfigError(
                    f"node {node} has parent {parent}; a parent is -1 (the prefix) or a node "
                    "that stands before its child"
                )

    @classmethod
    def chain(
        cls, token_ids: Sequence[int], *, logq: list[float] | None = None, source: int | None = None
    ) -> "TokenTree":
        """Return the tree of one path."""
        num_nodes = len(token_ids)
        sources = None if source is None else [source] * num_nodes
        return cls(list(token_ids), list(range(-1, num_nodes - 1)), logq, sources)

    @classmethod
    def from_paths(cls, paths: Iterable[Sequence[int]]) -> "TokenTree":
        """Return the tree of all paths; shared beginnings become shared nodes.

        Nodes keep the order in which the paths first reach them.
        """
        return cls.merge([cls.chain(path) for path in paths])

    @classmethod
    def merge(cls, trees: Iterable["TokenTree"]) -> "TokenTree":
        """Return one tree with the paths of all; equal paths become one node.

        The first tree that has a node gives its `logq` and `source`. The result has `logq`
        (`source`) when every non-empty tree has it.
        """
        parts = [tree for tree in trees if len(tree)]
        has_logq = bool(parts) and all(tree.logq is not None for tree in parts)
        has_source = bool(parts) and all(tree.source is not None for tree in parts)
        found: dict[Key, int] = {}
        token_ids: list[int] = []
        parents: list[int] = []
        logq: list[float] = []
        source: list[int] = []
        for tree in parts:
            placed: list[int] = []
            for node, token_id in enumerate(tree.token_ids):
                parent = tree.parents[node]
                key = (placed[parent] if parent >= 0 else -1, token_id)
                if key not in found:
                    found[key] = len(token_ids)
                    token_ids.append(token_id)
                    parents.append(key[0])
                    if has_logq and tree.logq is not None:
                        logq.append(tree.logq[node])
                    if has_source and tree.source is not None:
                        source.append(tree.source[node])
                placed.append(found[key])
        return cls(token_ids, parents, logq if has_logq else None, source if has_source else None)

    def select(self, nodes: Sequence[int]) -> "TokenTree":
        """Return the tree of some nodes, given in increasing order and with all their ancestors.

        Raises:
            ConfigError: a node's parent is missing, or the order is not increasing.
        """
        new_index = {-1: -1}
        for node in nodes:
            if node <= max(new_index) or self.parents[node] not in new_index:
                raise ConfigError(f"node {node} is out of order or stands without its parent")
            new_index[node] = len(new_index) - 1
        return TokenTree(
            [self.token_ids[node] for node in nodes],
            [new_index[self.parents[node]] for node in nodes],
            None if self.logq is None else [self.logq[node] for node in nodes],
            None if self.source is None else [self.source[node] for node in nodes],
        )

    def prune(self, budget: int, scores: Sequence[float] | None = None) -> "TokenTree":
        """Return the best `budget` nodes, ancestors included; ties keep the earlier node.

        Args:
            budget: Upper bound on the nodes of the result.
            scores: Of each node, shape (nodes,), higher is better; a node counts no more than its
                parent. Without scores: the logprob of the node's path when the tree has `logq`,
                else shallow nodes first.
        Raises:
            ConfigError: a negative budget, or scores of another length.
        """
        if budget < 0:
            raise ConfigError(f"budget must be 0 or more, got {budget}")
        if budget >= len(self):
            return self
        if scores is None:
            scores = [-float(d) for d in self.depths] if self.logq is None else self.path_logq
        elif len(scores) != len(self):
            raise ConfigError(f"{len(scores)} scores for a tree of {len(self)} nodes")
        capped: list[float] = []
        for node, parent in enumerate(self.parents):
            capped.append(min(scores[node], capped[parent]) if parent >= 0 else scores[node])
        best = sorted(range(len(self)), key=lambda node: (-capped[node], node))[:budget]
        return self.select(sorted(best))

    @cached_property
    def depths(self) -> list[int]:
        """The number of ancestors of each node, shape (nodes,); 0 follows the prefix."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return depths

    @cached_property
    def path_logq(self) -> list[float]:
        """The drafter's logprob (nats) of each node's whole path; zeros without `logq`."""
        totals: list[float] = []
        for node, parent in enumerate(self.parents):
            own = 0.0 if self.logq is None else self.logq[node]
            totals.append(own + (totals[parent] if parent >= 0 else 0.0))
        return totals

    @cached_property
    def is_chain(self) -> bool:
        """Whether every node has at most one child and there is at most one root."""
        return all(parent == node - 1 for node, parent in enumerate(self.parents))

    def ancestor_mask(self) -> np.ndarray:
        """Return whether node j is i or an ancestor of i, shape (nodes, nodes), bool."""
        mask = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                mask[node] |= mask[parent]
        return mask

    def children(self, node: int) -> list[int]:
        """Return the nodes whose parent is `node`; -1 asks for the roots."""
        return [child for child, parent in enumerate(self.parents) if parent == node]

    def path_to(self, node: int) -> list[int]:
        """Return the nodes from the root down to `node`, both included; [] for -1."""
        path = []
        while node >= 0:
            path.append(node)
            node = self.parents[node]
        return path[::-1]

    def is_path(self, nodes: Sequence[int]) -> bool:
        """Whether the nodes are a way from a root downwards; the empty way is one."""
        parent = -1
        for node in nodes:
            if not 0 <= node < len(self) or self.parents[node] != parent:
                return False
            parent = node
        return True

    def __len__(self) -> int:
        return len(self.token_ids)
