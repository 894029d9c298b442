"""The queries of the last tokens, for policies that score with them."""

from torch import Tensor


class QueryWindow:
    """The last queries of final tokens, in memory of twice the window.

    Example:
        >>> import torch
        >>> window = QueryWindow(2)
        >>> for number in range(4):
        ...     window.add(torch.full((1, 1, 1, 1), float(number)))
        >>> window.last().flatten().tolist()
        [2.0, 3.0]
    """

    def __init__(self, size: int) -> None:
        """Make an empty window.

        Args:
            size: Queries that are asked for; 0 keeps none.
        """
        self.size, self._used = size, 0
        self._rows: Tensor | None = None

    def add(self, queries: Tensor) -> None:
        """Take in the queries of newer tokens.

        Args:
            queries: Shape (batch, heads, new, head_dim).
        """
        if not self.size:
            return
        new = queries[:, :, -self.size :]
        num_new = new.shape[2]
        if self._rows is None:
            self._rows = new.new_empty(*new.shape[:2], 2 * self.size, new.shape[3])
        if self._used + num_new > self._rows.shape[2]:
            older = self._rows[:, :, self._used + num_new - self.size : self._used].clone()
            self._rows[:, :, : older.shape[2]] = older
            self._used = older.shape[2]
        self._rows[:, :, self._used : self._used + num_new] = new
        self._used += num_new

    def last(self) -> Tensor | None:
        """Return the queries held, at most `size`: (batch, heads, window, head_dim), or None."""
        if self._rows is None:
            return None
        return self._rows[:, :, max(self._used - self.size, 0) : self._used]

    def fork(self) -> "QueryWindow":
        """Return an independent copy."""
        other = QueryWindow(self.size)
        other._used = self._used
        other._rows = None if self._rows is None else self._rows.clone()
        return other
