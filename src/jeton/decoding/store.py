"""A datastore of text for retrieval: token ids with a suffix array."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jeton.errors import ConfigError, InputError


@dataclass(frozen=True, eq=False)
class Datastore:
    """Texts after each other, and the order of their suffixes.

    Attributes:
        token_ids: Shape (tokens,), int32; -1 ends each text.
        suffixes: Start of each suffix in lexicographic order, shape (tokens,), int32.

    Example:
        >>> store = Datastore.build([[1, 2, 3, 1, 2, 4]])
        >>> [store.continuation(s + 2, 1) for s in store.find([1, 2])]
        [[3], [4]]
    """

    token_ids: npt.NDArray[np.int32]
    suffixes: npt.NDArray[np.int32]

    @classmethod
    def build(cls, texts: Iterable[Sequence[int]]) -> "Datastore":
        """Sort the suffixes of some texts by prefix doubling, O(n log^2 n)."""
        ids = np.array([i for text in texts for i in (*text, -1)], dtype=np.int32)
        rank = np.unique(ids, return_inverse=True)[1].astype(np.int64)
        width, order = 1, np.argsort(rank, kind="stable")
        while len(ids) and rank.max() < len(ids) - 1 and width < len(ids):
            second = np.full(len(ids), -1, dtype=np.int64)
            second[:-width] = rank[width:]
            order = np.lexsort((second, rank))
            pairs = np.stack([rank[order], second[order]])
            changed = (np.diff(pairs, axis=1) != 0).any(axis=0)
            rank[order] = np.concatenate([[0], np.cumsum(changed)])
            width *= 2
        return cls(ids, order.astype(np.int32))

    def save(self, path: str | Path) -> None:
        """Write the store to one .npz file, whole or not at all."""
        target = Path(path)
        unfinished = target.with_suffix(".tmp.npz")
        np.savez(unfinished, token_ids=self.token_ids, suffixes=self.suffixes)
        unfinished.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> "Datastore":
        """Read a store.

        Raises:
            InputError: there is no such file, or it is no store.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(file["token_ids"], file["suffixes"])
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} is no datastore: {error}",
                hint="write one with Datastore.build(texts).save(path)",
            ) from error

    def find(self, pattern: Sequence[int]) -> npt.NDArray[np.int32]:
        """Return the starts of all places where the pattern stands, in suffix order."""
        wanted = tuple(pattern)
        if not wanted:
            raise ConfigError("the pattern to find has no tokens")
        low = self._border(wanted, after=False)
        return self.suffixes[low : self._border(wanted, after=True)]

    def _border(self, wanted: tuple[int, ...], *, after: bool) -> int:
        """Return the first suffix that is not before (or, `after`, beyond) the pattern."""
        low, high = 0, len(self.suffixes)
        while low < high:
            middle = (low + high) // 2
            start = int(self.suffixes[middle])
            found = tuple(self.token_ids[start : start + len(wanted)].tolist())
            if found < wanted or (after and found == wanted):
                low = middle + 1
            else:
                high = middle
        return low

    def continuation(self, start: int, length: int) -> list[int]:
        """Return up to `length` tokens from a place to the end of its text."""
        ids: list[int] = self.token_ids[start : start + length].tolist()
        return ids[: ids.index(-1)] if -1 in ids else ids
