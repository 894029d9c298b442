"""Walk a verified tree along chosen tokens: shared by the deterministic verifiers."""

from collections.abc import Sequence

from jeton.decoding.contract import Selection
from jeton.lm.tree import TokenTree


def follow(tree: TokenTree, chosen: Sequence[int]) -> Selection:
    """Return the path from the root along which each node's chosen token is its child.

    Args:
        tree: Node 0 is the root.
        chosen: Per node, the token that the target wants after it.
    """
    parents, token_ids = tree.parents, tree.token_ids
    path = [0]
    node = 0
    # Children stand after their parents, so one pass over the nodes finds the path.
    for child in range(1, len(token_ids)):
        if parents[child] == node and token_ids[child] == chosen[node]:
            path.append(child)
            node = child
    return Selection(tuple(path), int(chosen[node]))
