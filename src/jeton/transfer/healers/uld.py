"""ULD: match the teacher's sorted next-token probabilities, whatever tokens they belong to.

Source: Boizard et al. 2024, "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation
Loss for LLMs", https://arxiv.org/abs/2402.12030 (Eq. 4: the Wasserstein-1 distance under uniform
costs, an L1 distance of sorted probabilities).
Differs from the source: positions are paired where a token of each ends at the same byte, as TRL's
GOLD trainer does it, not by their number in the row, which would fall apart within a few tokens.
Cost: a forward pass of the teacher, and sorting both models' probabilities at each position.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from jeton.errors import ConfigError
from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.paired import PairedRows, sorted_distance
from jeton.transfer.training import (
    Batch,
    Group,
    TrainingOptions,
    body_parameters,
    embedding_parameters,
    train,
)


@dataclass(frozen=True, slots=True)
class Uld(TrainingOptions):
    """Options, those of `TrainingOptions` and:

    Attributes:
        weight: Of the distance; the paper's lambda.
        cross_entropy: Weight of the ordinary cross-entropy.
        embeddings_only: Share of the steps, at the start, that train the embeddings alone.
    """

    weight: float = 1.5
    cross_entropy: float = 1.0
    embeddings_only: float = 0.1

    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        if min(self.weight, self.cross_entropy) < 0:
            raise ConfigError("weight and cross_entropy must be 0 or more")
        if not 0 <= self.embeddings_only <= 1:
            raise ConfigError(f"embeddings_only must lie in [0, 1], got {self.embeddings_only}")

    def heal(self, inputs: HealInput) -> HealResult:
        """Train `inputs.model` in place; see `Healer.heal`."""
        if inputs.teacher is None or inputs.teacher_vocabulary is None:
            raise ConfigError("uld needs a teacher with its vocabulary")
        return train(self, inputs, _Objective(self, inputs))


class _Objective:
    """Sorted distance at shared positions, and cross-entropy."""

    def __init__(self, options: Uld, inputs: HealInput) -> None:
        self.options, self.model = options, inputs.model
        self.rows = PairedRows(options, inputs)

    def groups(self) -> list[Group]:
        return [
            Group(embedding_parameters(self.model), self.options.lr_embeddings),
            Group(body_parameters(self.model), self.options.lr_body, self.options.embeddings_only),
        ]

    def stride(self, length: int) -> int:
        return 1

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        nats, pairs = self.rows.run(batch)
        total = self.options.cross_entropy * nats
        for teacher, student in pairs:
            total = total + self.options.weight * sorted_distance(teacher, student).sum()
        return total, nats.detach()
