"""H2O: keep the recent tokens and those that got the most attention so far.

Source: Zhang et al. 2023, https://arxiv.org/abs/2306.14048, Algorithm 1
Differs from the source: evicts every `stride` tokens, not every token; grouped heads add up;
`normalise` is an option of ours.
Cost: the attention mass of the prompt, about a quarter of its forward; one more product of the
query with the kept keys per step.
"""

from dataclasses import dataclass

from torch import Tensor

from jeton.kv.contract import Rows
from jeton.kv.observed import MassPolicy


@dataclass(frozen=True, slots=True)
class H2O(MassPolicy):
    """Accumulated attention.

    Attributes:
        recent: 0 takes half of the budget, as the paper does.
        normalise: Divide what a row got by the number of queries that saw it, which else favours
            the rows that are there the longest.
    """

    recent: int = 0
    normalise: bool = False

    def __post_init__(self) -> None:
        if self.recent == 0:
            object.__setattr__(self, "recent", max(self.budget // 2, 1))
        MassPolicy.__post_init__(self)

    def score(self, rows: Rows) -> Tensor:
        """Return the attention that each row got so far.

        Args:
            rows: With mass.
        """
        mass = MassPolicy.score(self, rows)
        if not self.normalise:
            return mass
        lengths = rows.lengths.to(rows.positions.device)[:, None, None]
        return mass / (lengths - rows.positions.clamp_min(0)).clamp_min(1)
