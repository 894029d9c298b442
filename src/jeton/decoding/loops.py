"""Text that repeats itself: small models fall into loops, and loops flatter every drafter."""

from collections.abc import Sequence

IS_LOOPING = 0.4  # ordinary code repeats some 8-grams, prose hardly any; a loop nearly all


def loop_share(token_ids: Sequence[int], *, ngram: int = 8) -> float:
    """Return the share of n-grams that stood in the same text before.

    Example:
        >>> loop_share([1, 2, 3] * 20) > 0.9, loop_share(list(range(60)))
        (True, 0.0)
    """
    seen: set[tuple[int, ...]] = set()
    grams = [tuple(token_ids[i : i + ngram]) for i in range(len(token_ids) - ngram + 1)]
    repeats = 0
    for gram in grams:
        repeats += gram in seen
        seen.add(gram)
    return repeats / len(grams) if grams else 0.0
