"""ALM, approximate likelihood matching: give each chunk of bytes the teacher's likelihood.

Source: Minixhofer, Vulic and Ponti 2025, "Cross-Tokenizer Distillation via Approximate Likelihood
Matching", https://arxiv.org/abs/2503.20083 (binarised f-divergence, tau = 100, debiased chunks).
Differs from the source: the loss is multiplied by tau, so that its gradient is of the size of
cross-entropy's; chunks are summed and divided by the number of student tokens; a chunk that ends
before white space or the end of a text is debiased by the probability of such a next token, others
are not; an ordinary cross-entropy is added with a weight of its own.
Cost: a forward pass of the teacher beside the training step; one log-sum-exp more per chunk.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from jeton.core.vocabulary import TokenKind, Vocabulary
from jeton.errors import ConfigError
from jeton.transfer.alignment import AlignedRow, align_inputs, cut_row, pad_rows
from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.training import (
    Batch,
    Group,
    TrainingOptions,
    body_parameters,
    embedding_parameters,
    forward_logits,
    maybe_compiled,
    train,
)

_LEAST = -1e-6  # a chunk of probability one would have an infinite loss beside one that is unlikely
_DIVERGENCES = ("kl", "reverse_kl", "total_variation")


@dataclass(frozen=True, slots=True)
class Alm(TrainingOptions):
    """Options, those of `TrainingOptions` and:

    Attributes:
        tau: Temperature of the chunk probabilities exp(x / tau).
        divergence: "kl", "reverse_kl" or "total_variation" of the two Bernoulli laws.
        debias: Whether chunks before white space are compared together with their end.
        weight: Of the likelihood matching.
        cross_entropy: Weight of the ordinary cross-entropy.
        embeddings_only: Share of the steps, at the start, that train the embeddings alone.
    """

    tau: float = 100.0
    divergence: str = "kl"
    debias: bool = True
    weight: float = 1.0
    cross_entropy: float = 1.0
    embeddings_only: float = 0.1

    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        TrainingOptions.__post_init__(self)
        if self.divergence not in _DIVERGENCES:
            raise ConfigError(
                f"divergence must be one of {', '.join(_DIVERGENCES)}; got {self.divergence!r}"
            )
        if self.tau <= 0 or min(self.weight, self.cross_entropy) < 0:
            raise ConfigError(
                "tau must be above 0, weight and cross_entropy 0 or more; got "
                f"{self.tau}, {self.weight} and {self.cross_entropy}"
            )
        if not 0 <= self.embeddings_only <= 1:
            raise ConfigError(f"embeddings_only must lie in [0, 1], got {self.embeddings_only}")

    def heal(self, inputs: HealInput) -> HealResult:
        """Train `inputs.model` in place; see `Healer.heal`."""
        if inputs.teacher is None or inputs.teacher_vocabulary is None:
            raise ConfigError("alm needs a teacher with its vocabulary")
        return train(self, inputs, _Objective(self, inputs))


def binarised_divergence(
    teacher: Tensor, student: Tensor, tau: float, divergence: str = "kl"
) -> Tensor:
    """Return the divergence of each chunk, up to what does not depend on the student.

    Args:
        teacher: Log-probability of each chunk in nats, shape (chunks,).
        student: The same under the student; gradients flow.
        tau: Temperature; p = exp(x / tau).
        divergence: "kl" gives -[p_T x_S / tau + (1 - p_T) log(1 - p_S)].
    """
    given, wanted = student.clamp(max=_LEAST) / tau, teacher.clamp(max=_LEAST) / tau
    if divergence == "total_variation":
        return (given.exp() - wanted.exp()).abs()
    not_given, not_wanted = torch.log(-torch.expm1(given)), torch.log(-torch.expm1(wanted))
    if divergence == "kl":
        return -(wanted.exp() * given - torch.expm1(wanted) * not_given)
    return given.exp() * (given - wanted) - torch.expm1(given) * (not_given - not_wanted)


class _Objective:
    """Likelihood matching on the chunks of a batch, and cross-entropy."""

    def __init__(self, options: Alm, inputs: HealInput) -> None:
        self.options, self.model, self.teacher = options, inputs.model, inputs.teacher
        self.domain, self.replay = align_inputs(inputs)
        assert inputs.teacher_vocabulary is not None
        self.opens = _opens_boundary(inputs.vocabulary, inputs.model)
        self.teacher_opens = _opens_boundary(inputs.teacher_vocabulary, inputs.teacher)
        config = self.teacher.config.get_text_config(decoder=True)
        self.teacher_limit = getattr(config, "max_position_embeddings", None) or 1 << 30
        self.scores = maybe_compiled(_scores, options)

    def groups(self) -> list[Group]:
        return [
            Group(embedding_parameters(self.model), self.options.lr_embeddings),
            Group(body_parameters(self.model), self.options.lr_body, self.options.embeddings_only),
        ]

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        rows = self._aligned(batch)
        precision = self.options.precision
        ids = batch.token_ids.to(self.model.device)
        given, opens = self.scores(self.model, ids, self.opens, precision)
        with torch.no_grad():
            padded = pad_rows(rows).to(self.teacher.device)
            wanted, teacher_opens = _scores(self.teacher, padded, self.teacher_opens, precision)
        matched = self._match(rows, batch.token_ids, (given, opens), (wanted, teacher_opens))
        nats = -given.sum()
        weight = self.options.weight * self.options.tau
        return weight * matched + self.options.cross_entropy * nats, nats.detach()

    def _aligned(self, batch: Batch) -> list[AlignedRow]:
        length = batch.token_ids.shape[1] - 1
        rows = []
        for start, is_replay in zip(batch.starts, batch.is_replay, strict=True):
            text = self.replay if is_replay else self.domain
            assert text is not None
            rows.append(cut_row(text, start, length, self.teacher_limit))
        return rows

    def _match(
        self,
        rows: list[AlignedRow],
        token_ids: Tensor,
        student: tuple[Tensor, Tensor],
        teacher: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return the divergence summed over the chunks of all rows."""
        opens = self.opens.cpu()[token_ids[:, 1:]]
        opens = torch.cat([opens, opens.new_ones(len(opens), 1)], 1)  # (rows, length + 1)
        xs_student: list[Tensor] = []
        xs_teacher: list[Tensor] = []
        for index, row in enumerate(rows):
            if len(row.student_index) < 2:
                continue
            at_white = opens[index][torch.from_numpy(row.student_index[1:])]
            for xs, (logprobs, ends), at in (
                (xs_student, student, row.student_index),
                (xs_teacher, teacher, row.teacher_index),
            ):
                xs.append(_chunks(logprobs[index], ends[index], at, at_white, self.options.debias))
        if not xs_student:
            return student[0].sum() * 0.0
        wanted = torch.cat(xs_teacher).to(student[0].device)
        given = torch.cat(xs_student)
        # A chunk at the very end of a row has no next token, and so no probability of its end.
        is_known = torch.isfinite(wanted) & torch.isfinite(given)
        return binarised_divergence(
            wanted[is_known], given[is_known], self.options.tau, self.options.divergence
        ).sum()


def _chunks(
    logprobs: Tensor, ends: Tensor, at: np.ndarray, at_white: Tensor, debias: bool
) -> Tensor:
    """Return the log-probability of each chunk, shape (chunks,); NaN where it has no end.

    Args:
        logprobs: Of the tokens after the first one, shape (length,).
        ends: Log-probability that a boundary follows each token but the last, shape (length,).
        at: Index of the token that ends each chunk, the first one's beginning included.
        at_white: Whether white space or the end of the text follows each chunk.
        debias: Whether to add the probability of the end.
    """
    index = torch.from_numpy(at).to(logprobs.device)
    sums = torch.cat([logprobs.new_zeros(1), logprobs.double().cumsum(0).to(logprobs.dtype)])
    x = sums[index[1:]] - sums[index[:-1]]
    if not debias:
        return x
    padded = torch.cat([ends, ends.new_full((1,), float("nan"))])
    return x + torch.where(at_white.to(x.device), padded[index[1:]], 0.0)


def _scores(model: Any, rows: Tensor, opens: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of tokens 1 ... and of a boundary after tokens 0 ..., in nats.

    Both have shape (rows, length); `opens` says which of the model's rows begin a boundary.
    """
    logits = forward_logits(model, rows[:, :-1], precision)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = logits.logsumexp(-1)
    picked = logits.gather(-1, rows[:, 1:, None])[..., 0]
    boundary = logits.masked_fill(~opens, float("-inf")).logsumexp(-1)
    return picked - total, boundary - total


def _opens_boundary(vocabulary: Vocabulary, model: Any) -> Tensor:
    """Return which rows begin with white space or end a text, shape (num_embeddings,), bool."""
    opens = torch.zeros(model.get_input_embeddings().weight.shape[0], dtype=torch.bool)
    for token_id, data in enumerate(vocabulary.tokens):
        is_special = vocabulary.kinds[token_id] == TokenKind.SPECIAL
        opens[token_id] = bool(is_special) or data[:1].isspace()
    return opens.to(model.device)
