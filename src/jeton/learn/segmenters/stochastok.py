"""StochasTok: cut random tokens in two, again and again, so that a model sees their insides.

Source: Sims et al. 2025, https://arxiv.org/abs/2506.01687, algorithm 1: int(p * n) times, take a
uniform place of the growing sequence and replace its token by a uniform pair of tokens.
Differs from the source: the same law, but right halves are appended and linked in, and the order
of the text is restored once at the end; a uniform place of the text is a uniform leaf.
Cost: one pass over the document; the published loop moves the rest of the list for each cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.compiling import compiled
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError
from jeton.learn.segmentation import Segmentation
from jeton.learn.splits import checked, token_splits


@dataclass(frozen=True, slots=True)
class Stochastok:
    """Random cuts of tokens.

    Attributes:
        share: Attempts per token of the document.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 10:
            raise ConfigError(f"share must lie between 0 and 10, got {self.share}")

    def segment(
        self,
        vocabulary: Vocabulary,
        documents: Sequence[Sequence[int] | NDArray[np.int64]],
        seed: int = 0,
    ) -> Segmentation:
        """Return the documents with random tokens cut; a token without a cut uses up its turn."""
        splits = token_splits(vocabulary)
        rng = np.random.default_rng(seed)
        return Segmentation(
            [self.cut(ids, splits, rng) for ids in checked(documents, vocabulary.vocab_size)]
        )

    def cut(
        self,
        token_ids: NDArray[np.int64],
        splits: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return one document with random tokens cut; `splits` come from `token_splits`."""
        num_attempts = int(self.share * len(token_ids))
        room = len(token_ids) + num_attempts
        leaf: NDArray[np.int64] = np.zeros(room, dtype=np.int64)
        leaf[: len(token_ids)] = token_ids
        following: NDArray[np.int64] = np.arange(1, room + 1)
        draws = rng.random((num_attempts, 2))
        size = _cut_leaves(leaf, following, len(token_ids), draws, *splits)
        if size == len(token_ids):
            return token_ids
        out = np.zeros(size, dtype=np.int64)
        _in_order(leaf, following, out)
        return out


@compiled
def _cut_leaves(
    leaf: Any, following: Any, size: Any, draws: Any, begins: Any, left: Any, right: Any
) -> Any:
    """Cut uniform leaves; new right halves go to the end and are linked in after the left ones.

    A uniform place of the sequence is a uniform leaf, so that the order is needed only at the end.
    """
    if size > 0:
        following[size - 1] = -1
    for k in range(len(draws)):
        at = int(draws[k, 0] * size)
        token = leaf[at]
        ways = begins[token + 1] - begins[token]
        if ways > 0:
            way = begins[token] + int(draws[k, 1] * ways)
            leaf[at] = left[way]
            leaf[size] = right[way]
            following[size] = following[at]
            following[at] = size
            size += 1
    return size


@compiled
def _in_order(leaf: Any, following: Any, out: Any) -> None:
    """Write the leaves in the order of the text."""
    at = 0
    for k in range(len(out)):
        out[k] = leaf[at]
        at = following[at]
