"""Recursive rejection sampling: several distinct drafted tokens per node, one after the other.

Source: Jeon et al. 2024 (Recursive Speculative Decoding), https://arxiv.org/abs/2402.14160,
Algorithm 2; draws without replacement.
Differs from the source: a token that was not drawn at random counts as drawn from a single point.
Cost: one softmax per accepted token, one residual per rejected one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from jeton.decoding.chance import Chance
from jeton.decoding.contract import DISTINCT, Law
from jeton.decoding.rounds import Judged, LevelByLevel, judge_in_rounds


@dataclass(frozen=True, slots=True)
class RSD(LevelByLevel):
    """Options of the verifier: those of `LevelByLevel`."""

    draws: ClassVar[str] = DISTINCT

    def judge(
        self, target: Tensor, law: Law | None, tokens: Sequence[int], chance: Chance
    ) -> Judged:
        """Judge all tokens; a later one was drawn from what the earlier ones left of the law."""
        return judge_in_rounds(target, law, tokens, chance, distinct=True)
