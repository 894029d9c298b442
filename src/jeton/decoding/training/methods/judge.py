"""The head of Judge Decoding: is a token right, whether or not the target would have said it?

Source: Bachmann et al. 2025, https://arxiv.org/abs/2501.19309, section 4: a linear head on the
target's last hidden state at the token, trained on answers whose tokens are marked right or wrong.
Differs from the source: labels by construction instead of by people: tokens of real text are right,
tokens drawn at random from the text in their place are wrong.
Cost: a forward of the target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jeton.decoding.training.contract import Job, TrainInput
from jeton.decoding.training.rows import last_hidden, row_length, sample_rows
from jeton.decoding.weights import Weights, save_weights, target_sizes
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Judge:
    """Options of the trainer.

    Attributes:
        rate: Share of the tokens that are replaced by wrong ones.
        lr: Peak learning rate.
        batch_tokens: Tokens per step.
        length: Tokens per row.
    """

    rate: float = 0.15
    lr: float = 1e-2
    batch_tokens: int = 2048
    length: int = 256

    makes: ClassVar[str] = "judge"
    needs_draft: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if min(self.batch_tokens, self.length) < 1 or self.lr <= 0 or not 0 < self.rate < 1:
            raise ConfigError(f"sizes and lr must be above 0, rate in (0, 1); got {self}")

    def prepare(self, inputs: TrainInput) -> Job:
        """Return the job; see `DraftTrainer.prepare`."""
        target = inputs.target
        length = row_length(target, inputs.token_ids, self.length)
        num_rows = max(1, self.batch_tokens // length)
        sizes = target_sizes(target.model)
        head = nn.Linear(sizes["hidden_size"], 1)
        for parameter in head.parameters():
            nn.init.zeros_(parameter)

        def scores(rows: Tensor) -> Tensor:
            return judge_score(last_hidden(target.model, rows), head.weight[0], head.bias)

        def loss_of(step: int, num_steps: int) -> Tensor:
            rows = sample_rows(inputs.token_ids, num_rows, length, inputs.seed, step)
            rng = np.random.default_rng([inputs.seed, step, 1])
            mixed, is_right = corrupt(rows, inputs.token_ids, self.rate, rng)
            found = scores(mixed)[:, 1:].flatten()
            return _balanced(found, is_right[:, 1:].flatten())

        def measure(pieces: Sequence[list[int]]) -> dict[str, float]:
            rng = np.random.default_rng([inputs.seed, 2])
            found, labels = [], []
            for piece in pieces:
                rows, is_right = corrupt(torch.tensor([piece]), inputs.token_ids, self.rate, rng)
                with torch.no_grad():
                    found.append(scores(rows)[0, 1:])
                labels.append(is_right[0, 1:])
            odds, label = torch.cat(found), torch.cat(labels)
            right = (odds > 0)[label].float().mean()
            wrong = (odds <= 0)[~label].float().mean()
            return {"right_kept": round(float(right), 4), "wrong_refused": round(float(wrong), 4)}

        def finish(folder: Path) -> None:
            config = {**sizes, "threshold": 0.5}
            tensors = {"weight": head.weight[0].clone(), "bias": head.bias.clone()}
            save_weights(folder, Weights("judge", config, tensors))

        return Job(head, loss_of, finish, self.lr, num_rows * length, measure)


def judge_score(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the log odds that tokens are right, shape (...).

    Args:
        hidden: The target's last hidden states at the tokens, shape (..., hidden).
        weight: Shape (hidden,).
        bias: Shape (1,).
    """
    return hidden.float() @ weight + bias


def corrupt(
    rows: Tensor, token_ids: Tensor, rate: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return rows with some tokens replaced, and which tokens are right, both (rows, seq)."""
    chosen = torch.from_numpy(rng.random(tuple(rows.shape)) < rate)
    others = token_ids[torch.from_numpy(rng.integers(0, len(token_ids), tuple(rows.shape)))]
    mixed = torch.where(chosen, others, rows)
    return mixed, mixed == rows


def _balanced(odds: Tensor, is_right: Tensor) -> Tensor:
    """Return the mean of the losses of both classes."""
    loss = functional.binary_cross_entropy_with_logits(odds, is_right.float(), reduction="none")
    parts = [loss[mask].mean() for mask in (is_right, ~is_right) if bool(mask.any())]
    return torch.stack(parts).mean()
