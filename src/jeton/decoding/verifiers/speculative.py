"""Speculative sampling: accept a drafted token with probability min(1, target / draft).

Source: Leviathan et al. 2023, https://arxiv.org/abs/2211.17192, Algorithm 1.
Differs from the source: a token that was not drawn at random counts as drawn from a single point;
of a tree only the first child of each node is judged.
Cost: one softmax per accepted token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from jeton.decoding.chance import Chance
from jeton.decoding.contract import Law
from jeton.decoding.rounds import Judged, LevelByLevel, judge_in_rounds


@dataclass(frozen=True, slots=True)
class Speculative(LevelByLevel):
    """Options of the verifier: those of `LevelByLevel`."""

    def judge(
        self, target: Tensor, law: Law | None, tokens: Sequence[int], chance: Chance
    ) -> Judged:
        """Judge the first token only."""
        return judge_in_rounds(target, law, tokens[:1], chance, distinct=False)
