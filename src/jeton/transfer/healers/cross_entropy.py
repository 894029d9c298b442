"""Cross-entropy healing: the embeddings first, then the whole model, on the user's own text.

Source: the two-stage schedule common to vocabulary expansion (Mundra et al. 2024,
https://arxiv.org/abs/2407.05841; Csaki et al. 2023); the loss is the ordinary language-model loss.
Differs from the source: rows of general text (replay) are mixed into every batch, against
forgetting; dropout stays off, so that a resumed run is the same run.
Cost: one training step of the model per batch.
"""

from dataclasses import dataclass

from jeton.errors import ConfigError
from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.training import (
    Group,
    LanguageModelLoss,
    TrainingOptions,
    body_parameters,
    embedding_parameters,
    train,
)


@dataclass(frozen=True, slots=True)
class CrossEntropy(TrainingOptions):
    """Options, those of `TrainingOptions` and:

    Attributes:
        embeddings_only: Share of the steps, at the start, that train the embeddings alone.
    """

    embeddings_only: float = 0.1

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        if not 0 <= self.embeddings_only <= 1:
            raise ConfigError(f"embeddings_only must lie in [0, 1], got {self.embeddings_only}")

    def heal(self, inputs: HealInput) -> HealResult:
        """Train `inputs.model` in place; see `Healer.heal`."""
        groups = [
            Group(embedding_parameters(inputs.model), self.lr_embeddings),
            Group(body_parameters(inputs.model), self.lr_body, self.embeddings_only),
        ]
        return train(self, inputs, LanguageModelLoss(self, inputs.model, groups))
