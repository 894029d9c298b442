"""The acceptance head of SpecDec++: will the target keep what the draft model says?

Source: Huang et al. 2024, https://arxiv.org/abs/2405.19715, section 3.3: tokens of the text are
replaced by the draft model's with a rate of 0.15, the head learns their acceptance, rejections
weigh 6 times as much.
Differs from the source: labels are the acceptance probabilities themselves (min(1, p/q), or
whether both argmaxes agree), not draws from them; rows are text instead of the target's answers.
Cost: two forwards of the draft model and one of the target.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jeton.decoding.acceptance_head import AcceptanceHead
from jeton.decoding.training.contract import Job, TrainInput
from jeton.decoding.training.rows import last_hidden, logits_of, row_length, sample_rows
from jeton.decoding.weights import Weights, save_weights, target_sizes
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SpecDecPP:
    """Options of the trainer.

    Attributes:
        temperature: Of the decoding that the head is for; 0 is greedy.
        num_blocks: Residual blocks of the head.
        rate: Share of the tokens that are replaced.
        rejection_weight: Of rejections in the loss.
        lr: Peak learning rate.
        batch_tokens: Tokens per step.
        length: Tokens per row.
    """

    temperature: float = 0.0
    num_blocks: int = 2
    rate: float = 0.15
    rejection_weight: float = 6.0
    lr: float = 1e-3
    batch_tokens: int = 2048
    length: int = 256

    makes: ClassVar[str] = "specdec_pp"
    needs_draft: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.batch_tokens, self.length) < 1 or self.num_blocks < 0 or self.lr <= 0:
            raise ConfigError(f"batch_tokens, length and lr must be above 0; got {self}")
        if not 0 < self.rate < 1 or self.rejection_weight <= 0 or self.temperature < 0:
            raise ConfigError(
                "rate must lie in (0, 1), rejection_weight above 0, temperature at 0 or above; "
                f"got {self}"
            )

    def prepare(self, inputs: TrainInput) -> Job:
        """Return the job; see `DraftTrainer.prepare`."""
        target, draft = inputs.target, inputs.draft
        assert draft is not None, "needs_draft was not heeded"
        length = row_length(target, inputs.token_ids, self.length)
        length = row_length(draft, inputs.token_ids, length)
        num_rows = max(1, self.batch_tokens // length)
        vocab_size = target.vocabulary.vocab_size
        sizes = target_sizes(draft.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(inputs.seed)
            head = AcceptanceHead(sizes["hidden_size"], self.num_blocks)

        def loss_of(step: int, num_steps: int) -> Tensor:
            rows = sample_rows(inputs.token_ids, num_rows, length, inputs.seed, step)
            mixed, replaced = self._mix(rows, draft.model, vocab_size, [inputs.seed, step])
            label = self._acceptance(mixed, target.model, draft.model, vocab_size)[replaced[:, 1:]]
            odds = head(last_hidden(draft.model, mixed)[replaced])
            loss = functional.binary_cross_entropy_with_logits(odds, label, reduction="none")
            weight = label + self.rejection_weight * (1 - label)
            return (weight * loss).sum() / weight.sum().clamp_min(1.0)

        def finish(folder: Path) -> None:
            config = {**sizes, "num_blocks": self.num_blocks, "temperature": self.temperature}
            save_weights(folder, Weights("specdec_pp", config, head.state_dict()))

        return Job(head, loss_of, finish, self.lr, num_rows * length)

    def _mix(
        self, rows: Tensor, draft: object, vocab_size: int, seed: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Return rows with some tokens replaced by what the draft model says, and which."""
        rng = np.random.default_rng([*seed, 1])
        chosen = torch.from_numpy(rng.random(rows.shape) < self.rate)
        chosen[:, 0] = False
        chosen[0, 1] = True  # at least one, so that there is a loss
        logits = logits_of(draft, rows, vocab_size)[:, :-1]
        if self.temperature > 0:
            noise = torch.from_numpy(rng.gumbel(size=tuple(logits.shape))).float()
            logits = logits / self.temperature + noise
        mixed = rows.clone()
        mixed[:, 1:] = torch.where(chosen[:, 1:], logits.argmax(-1), rows[:, 1:])
        return mixed, chosen

    def _acceptance(self, rows: Tensor, target: object, draft: object, vocab_size: int) -> Tensor:
        """Return the chance of each token but the first to be accepted, shape (rows, seq - 1)."""
        theirs = logits_of(target, rows, vocab_size)[:, :-1]
        if self.temperature == 0:
            return (theirs.argmax(-1) == rows[:, 1:]).float()
        mine = logits_of(draft, rows, vocab_size)[:, :-1]
        index = rows[:, 1:, None]
        p, q = ((x / self.temperature).log_softmax(-1).gather(-1, index) for x in (theirs, mine))
        return (p - q).exp().clamp_max(1.0)[..., 0]
