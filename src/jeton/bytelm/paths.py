"""Sequences of token ids as nodes of one growing tree, so that long ones share what they share."""


class Paths:
    """Numbers for token sequences: 0 is the empty one, others are their parent and a last token.

    Attributes:
        parents: The number without the last token, by number.
        tokens: The last token, by number; -1 for the empty sequence.
        depths: Tokens, by number.

    Example:
        >>> paths = Paths()
        >>> node = paths.extend(0, [5, 6])
        >>> paths.ids(node), paths.extend(0, [5, 6]) == node
        ([5, 6], True)
    """

    def __init__(self) -> None:
        self.parents = [-1]
        self.tokens = [-1]
        self.depths = [0]
        self._children: dict[tuple[int, int], int] = {}

    def child(self, node: int, token_id: int) -> int:
        """Return the number of a sequence with one more token."""
        key = (node, token_id)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = len(self.parents)
            self.parents.append(node)
            self.tokens.append(token_id)
            self.depths.append(self.depths[node] + 1)
        return found

    def extend(self, node: int, token_ids: list[int] | tuple[int, ...]) -> int:
        """Return the number of a sequence with more tokens."""
        for token_id in token_ids:
            node = self.child(node, token_id)
        return node

    def ids(self, node: int, above: int = 0) -> list[int]:
        """Return the tokens of a sequence, those of its beginning `above` left out."""
        found = []
        while node != above and node > 0:
            found.append(self.tokens[node])
            node = self.parents[node]
        return found[::-1]

    def common(self, nodes: list[int]) -> int:
        """Return the longest beginning that all sequences share."""
        parents, depths = self.parents, self.depths
        found, seen = nodes[0], set()
        for node in nodes:
            depth = depths[found]
            while depths[node] > depth and node not in seen:
                seen.add(node)  # known to lie below `found`, which only moves up
                node = parents[node]
            if node in seen:
                continue
            while found != node:
                if depths[found] >= depths[node]:
                    found = parents[found]
                else:
                    node = parents[node]
        return found
