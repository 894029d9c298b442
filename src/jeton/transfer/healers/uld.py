"""ULD: match the teacher's sorted next-token probabilities, whatever tokens they belong to.

Source: Boizard et al. 2024, "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation
Loss for LLMs", https://arxiv.org/abs/2402.12030 (Eq. 4: the Wasserstein-1 distance under uniform
costs, an L1 distance of sorted probabilities).
Differs from the source: positions are paired where a token of each ends at the same byte, as TRL's
GOLD trainer does it, not by their number in the row, which would fall apart within a few tokens.
Cost: a forward pass of the teacher, and sorting both models' probabilities at each position.
"""

from dataclasses import dataclass

from torch import Tensor

from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.paired import PairedObjective, PairedOptions, sorted_distance
from jeton.transfer.training import train
from jeton.transfer.whole_model import check_teacher


@dataclass(frozen=True, slots=True)
class Uld(PairedOptions):
    """Options, those of `PairedOptions` and:

    Attributes:
        weight: Of the distance; the paper's lambda.
    """

    weight: float = 1.5

    def heal(self, inputs: HealInput) -> HealResult:
        """Train `inputs.model` in place; see `Healer.heal`."""
        check_teacher(inputs, "uld")
        return train(self, inputs, _Objective(self, inputs))


class _Objective(PairedObjective):
    """Sorted distance at shared positions, and cross-entropy."""

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        return sorted_distance(teacher, student).sum()
