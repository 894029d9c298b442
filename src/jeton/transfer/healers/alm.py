"""ALM, approximate likelihood matching: give each chunk of bytes the teacher's likelihood.

Source: Minixhofer, Vulic and Ponti 2025, "Cross-Tokenizer Distillation via Approximate Likelihood
Matching", https://arxiv.org/abs/2503.20083 (binarised f-divergence, tau = 100, debiased chunks).
Differs from the source: the loss is multiplied by tau, so that its gradient is of the size of
cross-entropy's; chunks are summed and divided by the number of student tokens; a chunk that ends
before white space or the end of a text is debiased by the probability of such a next token, others
are not; cross-entropy is added with a weight of its own; and where both models stand at the same
byte, the probabilities of likely tokens that both have are matched too (`shared`; 0 leaves it out).
Cost: a forward pass of the teacher for each new row; a row that comes again costs none.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.forward import forward_logits
from jeton.transfer.guide import Guide, Guides, ending_logprob, opening_ids, running_sums, scored
from jeton.transfer.training import Batch, Group, maybe_compiled, train
from jeton.transfer.whole_model import WholeModelOptions, check_teacher

_LEAST = -1e-6  # a chunk of probability one would have an infinite loss beside one that is unlikely
_DIVERGENCES = ("kl", "reverse_kl", "total_variation")


@dataclass(frozen=True, slots=True)
class Alm(WholeModelOptions):
    """Options, those of `WholeModelOptions` and:

    Attributes:
        tau: Temperature of the chunk probabilities exp(x / tau).
        divergence: "kl", "reverse_kl" or "total_variation" of the two Bernoulli laws.
        debias: Whether chunks before white space are compared together with their end.
        weight: Of the likelihood matching.
        cross_entropy: Weight of the ordinary cross-entropy.
        shared: Weight of matching the next token where both models stand at the same byte, over
            the teacher's `top_k` likeliest tokens that the student has too, and all others as one.
        top_k: See `shared`.
    """

    tau: float = 100.0
    divergence: str = "kl"
    debias: bool = True
    weight: float = 1.0
    cross_entropy: float = 1.0
    shared: float = 1.0
    top_k: int = 16

    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        WholeModelOptions.__post_init__(self)
        if self.divergence not in _DIVERGENCES:
            raise ConfigError(
                f"divergence must be one of {', '.join(_DIVERGENCES)}; got {self.divergence!r}"
            )
        if self.tau <= 0 or min(self.weight, self.cross_entropy, self.shared) < 0:
            raise ConfigError(
                "tau must be above 0, weight, cross_entropy and shared 0 or more; got "
                f"{self.tau}, {self.weight}, {self.cross_entropy} and {self.shared}"
            )
        if self.top_k < 1:
            raise ConfigError(f"top_k must be 1 or more, got {self.top_k}")

    def heal(self, inputs: HealInput) -> HealResult:
        """Train `inputs.model` in place; see `Healer.heal`."""
        check_teacher(inputs, "alm")
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


def shared_divergence(probability: Tensor, logprob: Tensor) -> Tensor:
    """Return the cross-entropy over some tokens, and all others as one, at each position.

    Args:
        probability: The teacher's, shape (positions, k).
        logprob: The student's, shape (positions, k); gradients flow.
    """
    rest = (1 - probability.sum(-1)).clamp(min=0)
    student_rest = torch.log(-torch.expm1(logprob.logsumexp(-1).clamp(max=_LEAST)))
    return -(probability * logprob).sum(-1) - rest * student_rest


class _Objective:
    """Likelihood matching on the chunks of a batch, and cross-entropy."""

    def __init__(self, options: Alm, inputs: HealInput) -> None:
        self.options, self.model = options, inputs.model
        top_k = options.top_k if options.shared else 0
        self.guides = Guides(
            inputs, debias=options.debias, top_k=top_k, precision=options.precision
        )
        self.opens = opening_ids(inputs.vocabulary).to(inputs.model.device)
        self.forward = maybe_compiled(forward_logits, options)

    def groups(self) -> list[Group]:
        return self.options.groups(self.model)

    def stride(self, length: int) -> int:
        return max(1, length // 2)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        guides = self.guides.of_batch(batch)
        ids = batch.token_ids.to(self.model.device)
        logits, logprobs = scored(self.model, ids, self.options.precision, self.forward)
        nats = -logprobs.sum()
        loss = self.options.cross_entropy * nats
        sums = running_sums(logprobs)
        for index, guide in enumerate(guides):
            row = (logits[index], logprobs[index], ids[index])
            loss = loss + self._match(guide, row, sums[index])
        return loss, nats.detach()

    def _match(self, guide: Guide, row: tuple[Tensor, Tensor, Tensor], sums: Tensor) -> Tensor:
        """Return the weighted divergences of one row, summed."""
        logits, logprobs, ids = row
        device, options = logits.device, self.options
        first, last = guide.first.to(device), guide.last.to(device)
        x = sums[last] - sums[first]
        if bool(guide.at_white.any()):
            white = guide.at_white.nonzero()[:, 0].to(device)
            ends = ending_logprob(logits, logprobs, ids, last[white], self.opens)
            x = x.index_add(0, white, ends)
        wanted = guide.logprob.to(device, x.dtype)
        chunks = binarised_divergence(wanted, x, options.tau, options.divergence)
        total = options.weight * options.tau * chunks.sum()
        if options.shared and len(guide.position):
            at = guide.position.to(device)
            normaliser = logits[at, ids[at + 1]] - logprobs[at]
            chosen = logits[at[:, None], guide.token_ids.to(device)] - normaliser[:, None]
            likely = guide.probability.to(device, chosen.dtype)
            total = total + options.shared * shared_divergence(likely, chosen).sum()
        return total
