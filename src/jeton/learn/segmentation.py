"""What cuts a text otherwise than its tokenizer does, the bytes unchanged.

Laws (tested over every registered segmenter, see `tests/contract/test_segmenters.py`):
1. The bytes of what comes out are the bytes of what went in.
2. Special and added tokens come out as they went in, and nothing is joined or cut across them.
3. The same ids and seed give the same result, and the input is not changed.
4. An id that comes out is a token of the vocabulary, or one of `extra_tokens`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jeton.core.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Documents cut anew.

    Attributes:
        token_ids: Ids of each document, shape (seq,), int64.
        extra_tokens: Bytes of the ids from `vocab_size` on, for methods that make tokens up.
        parts: For each extra token the ids that it was made of.
    """

    token_ids: list[NDArray[np.int64]]
    extra_tokens: tuple[bytes, ...] = ()
    parts: tuple[tuple[int, int], ...] = ()


class Segmenter(Protocol):
    """Cuts documents anew; its options are its fields."""

    def segment(
        self,
        vocabulary: Vocabulary,
        documents: Sequence[Sequence[int] | NDArray[np.int64]],
        seed: int = 0,
    ) -> Segmentation:
        """Cut documents anew.

        Args:
            vocabulary: Whose ids the documents are.
            documents: Ids as the encoder gives them, 0 <= id < vocab_size.
            seed: Of everything random.
        Raises:
            TokenizerMismatchError: an id is out of range.
            UnsupportedModelError: the vocabulary is of a kind that the method cannot use.
        """
        ...
