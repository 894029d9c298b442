"""Walk a verified tree along chosen tokens: shared by the deterministic verifiers."""

from collections.abc import Callable

from jeton.decoding.contract import Selection
from jeton.lm.tree import TokenTree


def follow(tree: TokenTree, choose: Callable[[int], int]) -> Selection:
    """Return the path from the root along which each node's chosen token is its child.

    Args:
        tree: Node 0 is the root.
        choose: Gives the token that the target wants after a node; asked on the path only.
    """
    parents, token_ids = tree.parents, tree.token_ids
    path = [0]
    node, wanted = 0, choose(0)
    # Children stand after their parents, so one pass over the nodes finds the path.
    for child in range(1, len(token_ids)):
        if parents[child] == node and token_ids[child] == wanted:
            path.append(child)
            node, wanted = child, choose(child)
    return Selection(tuple(path), wanted)
