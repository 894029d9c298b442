"""Grow a token tree best-first: the nodes with the highest estimated survival, up to a budget."""

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Any

from jeton.lm.tree import TokenTree

Children = Sequence[tuple[int, float, Any]]
"""Of a state: (token id, probability given the parent, state after it), best first."""


def grow(start: Any, expand: Callable[[Any], Children], budget: int, max_depth: int) -> TokenTree:
    """Return the tree of the `budget` most likely nodes with their logprobs.

    Args:
        start: The state at the end of the context.
        expand: Children of a state, most likely first; [] where nothing is known.
        budget: Most nodes.
        max_depth: Most nodes of a path.
    """
    token_ids: list[int] = []
    parents: list[int] = []
    logq: list[float] = []
    queue: list[tuple[float, int, int, int, int, Children]] = []
    order = 0  # ties go to what was found first

    def push(value: float, parent: int, depth: int, rank: int, children: Children) -> None:
        nonlocal order
        if rank < len(children) and children[rank][1] > 0:
            entry = (-value * children[rank][1], order, parent, depth, rank, children)
            heapq.heappush(queue, entry)
            order += 1

    push(1.0, -1, 0, 0, expand(start))
    values: list[float] = []
    while queue and len(token_ids) < budget:
        negative, _, parent, depth, rank, children = heapq.heappop(queue)
        token, share, state = children[rank]
        node = len(token_ids)
        token_ids.append(token)
        parents.append(parent)
        logq.append(math.log(share))
        values.append(-negative)
        push(values[parent] if parent >= 0 else 1.0, parent, depth, rank + 1, children)
        if depth + 1 < max_depth and len(token_ids) < budget:
            push(-negative, node, depth + 1, 0, expand(state))
    return TokenTree(token_ids, parents, logq)
