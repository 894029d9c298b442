"""Cross-entropy on the embeddings only: the body stays bit for bit as it was.

Source: Artetxe et al. 2020, "On the Cross-lingual Transferability of Monolingual Representations",
https://arxiv.org/abs/1910.11856 (step 2: a new vocabulary under a frozen body).
Differs from the source: the output matrix is trained too where it is not tied; all rows move, not
the new ones alone, which heals further (docs/transfer.md).
Cost: a forward pass and the backward pass down to the input embedding; no optimizer state for the
body.
"""

from dataclasses import dataclass

from torch import Tensor

from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.training import (
    Batch,
    Group,
    TrainingOptions,
    cross_entropy_sum,
    embedding_parameters,
    maybe_compiled,
    train,
)


@dataclass(frozen=True, slots=True)
class EmbeddingCe(TrainingOptions):
    """Options are those of `TrainingOptions`; `lr_body` has no effect."""

    def heal(self, inputs: HealInput) -> HealResult:
        """Train the embeddings of `inputs.model` in place; see `Healer.heal`."""
        return train(self, inputs, _Objective(self, inputs))


class _Objective:
    """The language-model loss of the rows, moved by the embeddings alone."""

    def __init__(self, options: EmbeddingCe, inputs: HealInput) -> None:
        self.options, self.model = options, inputs.model
        self.summed = maybe_compiled(cross_entropy_sum, options)

    def groups(self) -> list[Group]:
        return [Group(embedding_parameters(self.model), self.options.lr_embeddings)]

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        rows = batch.token_ids.to(self.model.device)
        loss = self.summed(self.model, rows, self.options.precision)
        return loss, loss.detach()
