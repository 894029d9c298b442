"""Dynamic tokenization: join the most frequent neighbours of a batch, as often as asked for.

Source: Feher et al. 2025, https://arxiv.org/abs/2411.18553, section 3: m times, the most frequent
valid pair of the batch becomes a token everywhere in it; its embedding comes from a hypernetwork.
Differs from the source: the embedding is left to `jeton.transfer.dynamic`, to which `parts` says
what each new token was made of.
Cost: one short pass over the batch for each merge, see `jeton.core.joining`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jeton.core.joining import check_joining, join_pairs, joins_of
from jeton.core.vocabulary import Vocabulary
from jeton.learn.segmentation import Segmentation
from jeton.learn.splits import checked


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Merges for one batch.

    Attributes:
        num_merges: Most merges; it ends before when no pair occurs twice.
        scope: "word": a token joins its left neighbour unless it begins with white space; "any":
            always. Special tokens never join.
    """

    num_merges: int = 200
    scope: str = "word"

    def __post_init__(self) -> None:
        check_joining(self.num_merges, self.scope)

    def segment(
        self,
        vocabulary: Vocabulary,
        documents: Sequence[Sequence[int] | NDArray[np.int64]],
        seed: int = 0,
    ) -> Segmentation:
        """Return the batch with its most frequent pairs joined; ties go to the first seen."""
        batch = checked(documents, vocabulary.vocab_size)
        ids, pairs = join_pairs(batch, joins_of(vocabulary, self.scope), self.num_merges)
        tokens = list(vocabulary.tokens)
        for left, right in pairs:
            tokens.append(tokens[left] + tokens[right])
        return Segmentation(ids, tuple(tokens[vocabulary.vocab_size :]), tuple(pairs))
