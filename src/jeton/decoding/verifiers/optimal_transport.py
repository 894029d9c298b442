"""Optimal multi-draft sampling: no exact rule keeps one of k drafts more often.

Source: Sun et al. 2023 (SpecTr), https://arxiv.org/abs/2310.15141, the transport problem of
section 4; Hu et al. 2025, https://arxiv.org/abs/2502.18779, its dual; Khisti et al. 2024,
https://arxiv.org/abs/2410.18234, theorem 1: pick a draft, then judge it as a single one.
Differs from the source: the law of the pick is found in closed form and reached by random levels
(see `jeton.decoding.transport`) instead of a linear program, so that k and the vocabulary are not
limited; above `num_bins` drawable tokens those of about equal target / draft share a bin.
Cost: some milliseconds per judged node (one sort, then num_bins^2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.decoding.chance import Chance
from jeton.decoding.contract import Law
from jeton.decoding.rounds import Judged, LevelByLevel
from jeton.decoding.transport import optimal_plan
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class OptimalTransport(LevelByLevel):
    """Options of the verifier: those of `LevelByLevel`, and how finely the optimum is met.

    Attributes:
        num_bins: Tokens are told apart by target / draft in at most so many bins.
    """

    num_bins: int = 128

    needs_fixed_draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.num_bins < 1:
            raise ConfigError(f"num_bins must be at least 1, got {self.num_bins}")

    def judge(
        self, target: Tensor, law: Law | None, tokens: Sequence[int], chance: Chance
    ) -> Judged:
        """Pick the draft of the highest level; keep it with target / picked, or draw the rest."""
        assert law is not None
        draft = law.probabilities.to(target.device)
        plan = optimal_plan(target, draft, len(tokens), num_bins=self.num_bins)
        levels = [chance.draws(plan.levels[plan.bins[token]]) for token in tokens]
        highest = [index for index, level in enumerate(levels) if level == max(levels)]
        index = highest[0] if len(highest) == 1 else highest[chance.draws(torch.ones(len(highest)))]
        token = tokens[index]
        if chance.accepts(min(1.0, float(target[token]) / float(plan.picked[token]))):
            return index, target
        rest = (target - plan.picked.to(target.device)).clamp_min(0.0)
        if float(rest.sum()) <= 0.0:  # target = picked: only rounding can reject
            return index, target
        return None, rest
