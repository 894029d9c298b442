"""ULD: match the teacher's sorted next-token probabilities, whatever tokens they belong to.

Source: Boizard et al. 2024, "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation
Loss for LLMs", https://arxiv.org/abs/2402.12030 (Eq. 4: the Wasserstein-1 distance under uniform
costs, an L1 distance of sorted probabilities).
Differs from the source: positions are paired where a token of each ends at the same byte, as TRL's
GOLD trainer does it, not by their number in the row, which would fall apart within a few tokens.
Cost: a forward pass of the teacher, and sorting both models' probabilities at each position.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from jeton.errors import ConfigError
from jeton.transfer.alignment import align_inputs, cut_row, pad_rows
from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.training import (
    Batch,
    Group,
    TrainingOptions,
    body_parameters,
    embedding_parameters,
    forward_logits,
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


def sorted_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the L1 distance of sorted probabilities, shape (positions,).

    Args:
        teacher: Probabilities, shape (positions, teacher num_embeddings).
        student: Probabilities, shape (positions, student num_embeddings); the narrower of the two
            is filled up with zeros.
    """
    width = max(teacher.shape[-1], student.shape[-1])
    first, second = (
        functional.pad(p.sort(-1, descending=True).values, (0, width - p.shape[-1]))
        for p in (teacher, student)
    )
    return (first - second).abs().sum(-1)


class _Objective:
    """Sorted distance at shared positions, and cross-entropy."""

    def __init__(self, options: Uld, inputs: HealInput) -> None:
        self.options, self.model, self.teacher = options, inputs.model, inputs.teacher
        self.domain, self.replay = align_inputs(inputs)
        config = self.teacher.config.get_text_config(decoder=True)
        self.teacher_limit: int = getattr(config, "max_position_embeddings", None) or 1 << 30

    def groups(self) -> list[Group]:
        return [
            Group(embedding_parameters(self.model), self.options.lr_embeddings),
            Group(body_parameters(self.model), self.options.lr_body, self.options.embeddings_only),
        ]

    def stride(self, length: int) -> int:
        return 1

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        ids = batch.token_ids.to(self.model.device)
        length = ids.shape[1] - 1
        rows = []
        for start, is_replay in zip(batch.starts, batch.is_replay, strict=True):
            text = self.replay if is_replay else self.domain
            assert text is not None
            rows.append(cut_row(text, start, length, self.teacher_limit))
        logits = _wide(forward_logits(self.model, ids[:, :-1], self.options.precision))
        nats = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
        padded = pad_rows(rows).to(self.teacher.device)
        with torch.no_grad():
            wanted = _wide(forward_logits(self.teacher, padded[:, :-1], self.options.precision))
        distance: Any = 0.0
        for index, row in enumerate(rows):
            # The last shared position of a row may have no next token in one of the two.
            both = (row.student_index < length) & (row.teacher_index < wanted.shape[1])
            at = torch.from_numpy(row.student_index[both]).to(ids.device)
            other = torch.from_numpy(row.teacher_index[both]).to(padded.device)
            distance += sorted_distance(
                wanted[index, other].softmax(-1).to(ids.device), logits[index, at].softmax(-1)
            ).sum()
        return self.options.weight * distance + self.options.cross_entropy * nats, nats.detach()


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
