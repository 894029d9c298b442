"""The adapter of Kangaroo: trained on text with the target as teacher.

Source: Liu et al. 2024, https://arxiv.org/abs/2404.18911, section 3.1, Eq. 2: cross-entropy
against the target's distribution; the first layers and the output matrix stay as they are.
Differs from the source: the adapter begins as the attention of the target's next layer.
Cost: a forward of the target, forward and backward of the adapter and of the output matrix.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from jeton.decoding.early_exit import shallow_model
from jeton.decoding.training.contract import Job, TrainInput
from jeton.decoding.training.rows import logits_of, row_length, sample_rows, soft_cross_entropy
from jeton.decoding.weights import Weights, save_weights, target_sizes
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Kangaroo:
    """Options of the trainer.

    Attributes:
        num_layers: Of the target that draft; 2 in the paper for 32 layers.
        lr: Peak learning rate.
        batch_tokens: Tokens per step.
        length: Tokens per row.
    """

    num_layers: int = 1
    lr: float = 2e-3
    batch_tokens: int = 1024
    length: int = 256

    makes: ClassVar[str] = "kangaroo"
    needs_draft: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if min(self.num_layers, self.batch_tokens, self.length) < 1 or self.lr <= 0:
            raise ConfigError(
                f"num_layers, batch_tokens and length must be at least 1 and lr above 0; got {self}"
            )

    def prepare(self, inputs: TrainInput) -> Job:
        """Return the job; see `DraftTrainer.prepare`."""
        target = inputs.target
        length = row_length(target, inputs.token_ids, self.length)
        num_rows = max(1, self.batch_tokens // length)
        model, adapter = shallow_model(target.model, self.num_layers)
        for parameter in adapter.parameters():
            parameter.requires_grad_(True)
        vocab_size = target.vocabulary.vocab_size

        def loss_of(step: int, num_steps: int) -> Tensor:
            rows = sample_rows(inputs.token_ids, num_rows, length, inputs.seed, step)
            teacher = logits_of(target.model, rows, vocab_size).softmax(-1)
            with torch.enable_grad():
                found = model(input_ids=rows, use_cache=False).logits[..., :vocab_size].float()
            return soft_cross_entropy(teacher, found)

        def finish(folder: Path) -> None:
            config = {**target_sizes(target.model), "num_layers": self.num_layers}
            state = {k: v.to(target.dtype) for k, v in adapter.state_dict().items()}
            save_weights(folder, Weights("kangaroo", config, state))

        return Job(adapter, loss_of, finish, self.lr, num_rows * length)
