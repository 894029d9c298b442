"""Multi-round speculative sampling: several drafted tokens per node, one after the other.

Source: Miao et al. 2023 (SpecInfer), https://arxiv.org/abs/2305.09781, Algorithm 2; draws with
replacement.
Differs from the source: a token that was not drawn at random counts as drawn from a single point.
Cost: one softmax per accepted token, one residual per rejected one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from jeton.decoding.chance import Chance
from jeton.decoding.contract import Law
from jeton.decoding.rounds import Judged, LevelByLevel, judge_in_rounds


@dataclass(frozen=True, slots=True)
class MultiRound(LevelByLevel):
    """Options of the verifier: those of `LevelByLevel`."""

    def judge(
        self, target: Tensor, law: Law | None, tokens: Sequence[int], chance: Chance
    ) -> Judged:
        """Judge all tokens; a later one was drawn from the same law."""
        return judge_in_rounds(target, law, tokens, chance, distinct=False)
