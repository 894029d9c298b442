"""Cross-entropy on the embeddings only: the body stays bit for bit as it was.

Source: Artetxe et al. 2020, "On the Cross-lingual Transferability of Monolingual Representations",
https://arxiv.org/abs/1910.11856 (step 2: a new vocabulary under a frozen body).
Differs from the source: the output matrix is trained too where it is not tied; all rows move, not
the new ones alone, which heals further (docs/transfer.md).
Cost: a forward pass and the backward pass down to the input embedding; no optimizer state for the
body.
"""

from dataclasses import dataclass

from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.training import (
    Group,
    LanguageModelLoss,
    TrainingOptions,
    embedding_parameters,
    train,
)


@dataclass(frozen=True, slots=True)
class EmbeddingCe(TrainingOptions):
    """Options are those of `TrainingOptions`; `lr_body` has no effect."""

    def heal(self, inputs: HealInput) -> HealResult:
        """Train the embeddings of `inputs.model` in place; see `Healer.heal`."""
        groups = [Group(embedding_parameters(inputs.model), self.lr_embeddings)]
        return train(self, inputs, LanguageModelLoss(self, inputs.model, groups))
