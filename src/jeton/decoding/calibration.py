"""How often guesses of a given confidence held: probabilities that can be compared."""

import math
from collections.abc import Sequence

from jeton.decoding.contract import Step
from jeton.lm.tree import TokenTree

NEUTRAL_LOGQ = math.log(0.5)  # the confidence of a drafter that gives none

_WEIGHT = 8.0  # tries that a drafter's own confidence counts for, before anything was seen
_FADE = 0.99  # per count: the last hundred guesses of a level decide


class Calibration:
    """Counts per drafter (`source`) and level of confidence."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, int], tuple[float, float]] = {}  # tries, hits

    def survival(self, tree: TokenTree) -> list[float]:
        """Return per node the estimated probability that it is on the accepted path.

        Example:
            >>> Calibration().survival(TokenTree.chain([4, 5], logq=[-0.5, -0.5]))[1]
            0.36787944117144233
        """
        logq, sources = _figures(tree)
        found: list[float] = []
        for node, parent in enumerate(tree.parents):
            own = min(max(math.exp(logq[node]), 1e-6), 0.98)
            tried, held = self._counts.get((sources[node], _level(own)), (0.0, 0.0))
            share = (held + _WEIGHT * own) / (tried + _WEIGHT)
            found.append(share * (found[parent] if parent >= 0 else 1.0))
        return found

    def observe(self, step: Step) -> None:
        """Count the nodes whose parent was accepted: did they hold?"""
        tree, kept = step.tree, {*step.accepted}
        logq, sources = _figures(tree)
        for node in range(1, len(tree)):
            if tree.parents[node] in kept:
                key = (sources[node], _level(min(max(math.exp(logq[node]), 1e-6), 0.98)))
                tried, held = self._counts.get(key, (0.0, 0.0))
                self._counts[key] = (_FADE * tried + 1.0, _FADE * held + float(node in kept))


def _figures(tree: TokenTree) -> tuple[Sequence[float], Sequence[int]]:
    return tree.logq or [NEUTRAL_LOGQ] * len(tree), tree.source or [0] * len(tree)


def _level(probability: float) -> int:
    """Return the level of a confidence: steps of 1 in log odds."""
    return math.floor(math.log(probability / (1.0 - probability)))
