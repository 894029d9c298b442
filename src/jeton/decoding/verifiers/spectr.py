"""k-SEQ: accept any of k independent drafts, near the optimum of the transport problem.

Source: Sun et al. 2023 (SpecTr), https://arxiv.org/abs/2310.15141, Algorithm 2.
Differs from the source: the division factor is found by bisection to 1e-12, from the safe side.
Cost: one softmax and about 50 passes over the vocabulary per judged node.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.decoding.chance import Chance
from jeton.decoding.contract import Law
from jeton.decoding.rounds import Judged, LevelByLevel


@dataclass(frozen=True, slots=True)
class SpecTr(LevelByLevel):
    """Options of the verifier: those of `LevelByLevel`."""

    needs_fixed_draws: ClassVar[bool] = True

    def judge(
        self, target: Tensor, law: Law | None, tokens: Sequence[int], chance: Chance
    ) -> Judged:
        """Accept each draft x with min(1, target[x] / (rho draft[x])); else draw what is left."""
        assert law is not None
        draft = law.probabilities.to(target.device)
        num_drafts = len(tokens)
        rho = division_factor(target, draft, num_drafts)
        for index, token in enumerate(tokens):
            if chance.accepts(min(1.0, float(target[token]) / (rho * float(draft[token])))):
                return index, target
        overlap = torch.minimum(draft, target / rho)
        beta = float(overlap.sum())
        accepted = 1.0 - (1.0 - beta) ** num_drafts
        factor = accepted / beta if beta > 0 else 0.0
        rest = (target - factor * overlap).clamp_min(0.0)
        if float(rest.sum()) <= 0.0:  # target = draft: only rounding can reject
            return 0, target
        return None, rest


def division_factor(target: Tensor, draft: Tensor, num_drafts: int) -> float:
    """Return the smallest rho for which what is left of the target is nowhere negative.

    It solves 1 - (1 - beta)^k = rho beta, with beta(rho) = sum min(draft, target / rho); at any
    larger rho the sampling is exact too, only accepted less often.

    Example:
        >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5])
        >>> round(division_factor(p.double(), q.double(), 1), 6)
        1.0
    """
    low, high = 1.0, float(num_drafts)
    while high - low > 1e-12 * high:
        rho = (low + high) / 2
        beta = float(torch.minimum(draft, target / rho).sum())
        if 1.0 - (1.0 - beta) ** num_drafts <= rho * beta:
            high = rho
        else:
            low = rho
    return high
