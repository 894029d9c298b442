"""GOLD: match tokens that both vocabularies have directly, all others by sorted probabilities.

Source: Patino et al. 2025, "Unlocking On-Policy Distillation for Any Model Family",
https://huggingface.co/spaces/HuggingFaceH4/general-on-policy-logit-distillation (the hybrid loss of
TRL's GOLD trainer: generalised Jensen-Shannon divergence on matched tokens, ULD on the rest).
Differs from the source: off-policy, on given text; probabilities of a token that the other model
writes in several are not merged, such places are left out; cross-entropy is added.
Cost: a forward pass of the teacher, and sorting the unmatched part of both vocabularies.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.matching import match_tokens
from jeton.transfer.paired import PairedObjective, PairedOptions, sorted_distance
from jeton.transfer.training import train
from jeton.transfer.whole_model import check_teacher

_LEAST = 1e-9  # probabilities below it count as it, so that their logarithm is finite


@dataclass(frozen=True, slots=True)
class Gold(PairedOptions):
    """Options, those of `PairedOptions` and:

    Attributes:
        beta: Of the divergence: 0 is KL from the teacher, 1 from the student.
    """

    beta: float = 0.5

    def __post_init__(self) -> None:
        PairedOptions.__post_init__(self)
        if not 0 <= self.beta <= 1:
            raise ConfigError(f"beta must lie in [0, 1], got {self.beta}")

    def heal(self, inputs: HealInput) -> HealResult:
        """Train `inputs.model` in place; see `Healer.heal`."""
        check_teacher(inputs, "gold")
        return train(self, inputs, _Objective(self, inputs))


def generalised_jsd(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """Return beta KL(T | M) + (1 - beta) KL(S | M), M = beta T + (1 - beta) S, by position.

    The ends of beta are the two KL divergences themselves, KL(T | S) at 0 and KL(S | T) at 1.
    """
    t, s = teacher.clamp(min=_LEAST), student.clamp(min=_LEAST)
    if beta == 0:
        return (t * (t.log() - s.log())).sum(-1)
    if beta == 1:
        return (s * (s.log() - t.log())).sum(-1)
    mixed = (beta * t + (1 - beta) * s).log()
    return (beta * t * (t.log() - mixed) + (1 - beta) * s * (s.log() - mixed)).sum(-1)


class _Objective(PairedObjective):
    """The hybrid loss at shared positions, and cross-entropy."""

    options: Gold

    def __init__(self, options: Gold, inputs: HealInput) -> None:
        super().__init__(options, inputs)
        assert inputs.teacher_vocabulary is not None
        matches = match_tokens(inputs.teacher_vocabulary, inputs.vocabulary)
        pairs = [(m.source_ids[0], i) for i, m in enumerate(matches) if m.is_shared]
        device = inputs.model.device
        self.teacher_ids, self.student_ids = torch.tensor(pairs, device=device).unbind(1)
        self.share = len(pairs) / inputs.teacher_vocabulary.vocab_size

    def distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Return the loss summed over positions; the parts weigh as their share of tokens."""
        matched = generalised_jsd(
            teacher[:, self.teacher_ids], student[:, self.student_ids], self.options.beta
        )
        rest = sorted_distance(
            teacher.index_fill(1, self.teacher_ids, 0), student.index_fill(1, self.student_ids, 0)
        )
        share = min(1.0, self.share)
        return (share * matched + (1 - share) * rest).sum()
