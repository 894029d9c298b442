"""Next-token probabilities of student and teacher at the same places of a text, side by side.

What the baselines of cross-tokenizer distillation compare: both whole distributions, wherever a
token of each ends at the same byte.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from jeton.errors import ConfigError
from jeton.transfer.alignment import align_inputs, cut_row, pad_rows
from jeton.transfer.contract import HealInput
from jeton.transfer.forward import forward_logits, guiding_model
from jeton.transfer.training import Batch, Group, TrainingOptions
from jeton.transfer.whole_model import WholeModelOptions


class PairedRows:
    """Runs both models on the rows of a batch.

    Args:
        options: Of the healer.
        inputs: With a teacher.
    """

    def __init__(self, options: TrainingOptions, inputs: HealInput) -> None:
        self.precision, self.model = options.precision, inputs.model
        self.teacher = guiding_model(inputs, options.precision)
        self.texts = align_inputs(inputs)
        config: Any = self.teacher.config.get_text_config(decoder=True)
        self.limit: int = getattr(config, "max_position_embeddings", None) or 1 << 30

    def run(self, batch: Batch) -> tuple[Tensor, Iterator[tuple[Tensor, Tensor]]]:
        """Return the student's cross-entropy in nats, summed, and pairs of probabilities by row.

        A pair is (teacher, student), shapes (positions, num_embeddings of each).
        """
        ids = batch.token_ids.to(self.model.device)
        logits = _wide(forward_logits(self.model, ids[:, :-1], self.precision))
        nats = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
        return nats, self._pairs(batch, logits)

    def _pairs(self, batch: Batch, logits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        length = batch.token_ids.shape[1] - 1
        rows = []
        for start, is_replay in zip(batch.starts, batch.is_replay, strict=True):
            text = self.texts[is_replay]
            assert text is not None
            rows.append(cut_row(text, start, length, self.limit))
        padded = pad_rows(rows).to(self.teacher.device)
        with torch.no_grad():
            wanted = _wide(forward_logits(self.teacher, padded[:, :-1], self.precision))
        for index, row in enumerate(rows):
            # The last shared position of a row may have no next token in one of the two.
            both = (row.student_index < length) & (row.teacher_index < wanted.shape[1])
            at = torch.from_numpy(row.student_index[both]).to(logits.device)
            other = torch.from_numpy(row.teacher_index[both]).to(wanted.device)
            teacher = wanted[index, other].softmax(-1).to(logits.device)
            yield teacher, logits[index, at].softmax(-1)


@dataclass(frozen=True, slots=True)
class PairedOptions(WholeModelOptions):
    """Options, those of `WholeModelOptions` and:

    Attributes:
        weight: Of the distance between the two models.
        cross_entropy: Weight of the ordinary cross-entropy.
    """

    weight: float = 1.0
    cross_entropy: float = 1.0

    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        WholeModelOptions.__post_init__(self)
        if min(self.weight, self.cross_entropy) < 0:
            raise ConfigError("weight and cross_entropy must be 0 or more")


class PairedObjective(ABC):
    """A distance at shared positions, and cross-entropy."""

    def __init__(self, options: PairedOptions, inputs: HealInput) -> None:
        self.options, self.model = options, inputs.model
        self.rows = PairedRows(options, inputs)

    def groups(self) -> list[Group]:
        """Return the parameters to train."""
        return self.options.groups(self.model)

    def stride(self, length: int) -> int:
        """Return 1: rows begin anywhere."""
        return 1

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and the cross-entropy, summed."""
        nats, pairs = self.rows.run(batch)
        total = self.options.cross_entropy * nats
        for teacher, student in pairs:
            total = total + self.options.weight * self.distance(teacher, student)
        return total, nats.detach()

    @abstractmethod
    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Return the distance of two models, summed over the positions of a row.

        Args:
            teacher: Probabilities, shape (positions, teacher num_embeddings).
            student: Probabilities, shape (positions, student num_embeddings).
        """


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


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
