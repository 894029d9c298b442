"""Cross-entropy healing: the embeddings first, then the whole model, on the user's own text.

Source: the two-stage schedule common to vocabulary expansion (Mundra et al. 2024,
https://arxiv.org/abs/2407.05841; Csaki et al. 2023); the loss is the ordinary language-model loss.
Differs from the source: rows of general text (replay) are mixed into every batch, against
forgetting; dropout stays off, so that a resumed run is the same run.
Cost: one training step of the model per batch.
"""

from dataclasses import dataclass

from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.training import LanguageModelLoss, train
from jeton.transfer.whole_model import WholeModelOptions


@dataclass(frozen=True, slots=True)
class CrossEntropy(WholeModelOptions):
    """Options; see `WholeModelOptions`."""

    def heal(self, inputs: HealInput) -> HealResult:
        """Train `inputs.model` in place; see `Healer.heal`."""
        model = inputs.model
        return train(self, inputs, LanguageModelLoss(self, model, self.groups(model)))
