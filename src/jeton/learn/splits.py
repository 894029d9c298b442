"""What segmenters share: ids checked, and the ways to cut a token in two."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jeton.core.vocabulary import Vocabulary
from jeton.errors import TokenizerMismatchError


def checked(
    documents: Sequence[Sequence[int] | NDArray[np.int64]], vocab_size: int
) -> list[NDArray[np.int64]]:
    """Return copies of the documents as arrays.

    Raises:
        TokenizerMismatchError: an id is out of range.
    """
    found = [np.array(document, dtype=np.int64) for document in documents]
    for ids in found:
        if len(ids) and not 0 <= ids.min() <= ids.max() < vocab_size:
            raise TokenizerMismatchError(
                f"ids from {ids.min()} to {ids.max()} are not of a vocabulary of {vocab_size}",
                hint="give the vocabulary that encoded them",
            )
    return found


def reserved_ids(vocabulary: Vocabulary) -> set[int]:
    """Return the ids of special and added tokens, which are left alone."""
    return {*vocabulary.special_tokens.values(), *vocabulary.added_tokens.values()}


def token_splits(
    vocabulary: Vocabulary,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return every way to cut a token into two tokens.

    Returns:
        For each id where its ways begin, shape (vocab_size + 1,), int64; then the left and the
        right id of each way, shape (ways,), int64.
    """
    reserved = reserved_ids(vocabulary)
    id_of: dict[bytes, int] = {}
    for token_id, token in enumerate(vocabulary.tokens):
        if token and token_id not in reserved:
            id_of.setdefault(token, token_id)
    begins, left, right = [0], [], []
    for token_id, token in enumerate(vocabulary.tokens):
        if token_id not in reserved:
            for cut in range(1, len(token)):
                a, b = id_of.get(token[:cut]), id_of.get(token[cut:])
                if a is not None and b is not None:
                    left.append(a)
                    right.append(b)
        begins.append(len(left))
    return (
        np.array(begins, dtype=np.int64),
        np.array(left, dtype=np.int64),
        np.array(right, dtype=np.int64),
    )
