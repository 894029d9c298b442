"""What a teacher says about a row of the student's text, computed once per row and kept.

Rows begin on a grid, so that a text that is read several times asks the teacher only once. Each row
goes through the teacher on its own: what is kept does not depend on the batch that it came in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from jeton.core.vocabulary import TokenKind, Vocabulary
from jeton.transfer.alignment import AlignedRow, align_inputs, cut_row
from jeton.transfer.contract import HealInput
from jeton.transfer.forward import forward_logits, guiding_model
from jeton.transfer.matching import match_tokens
from jeton.transfer.training import Batch

_KEPT_ROWS = 2048  # of 1,024 tokens: a few hundred megabytes


@dataclass(frozen=True, slots=True)
class Guide:
    """The teacher on one row; indices are those of tokens in the student's row.

    Attributes:
        first: Token after which each chunk begins, shape (chunks,), int64.
        last: Token that ends each chunk, shape (chunks,), int64.
        logprob: Of each chunk in nats, its end included where `at_white`, shape (chunks,).
        at_white: Whether white space or the end of a text follows each chunk, shape (chunks,).
        position: Tokens after which both models choose a next token, shape (positions,), int64.
        token_ids: Likely next tokens that both vocabularies have, as student ids, shape
            (positions, k), int64.
        probability: The teacher's, shape (positions, k).
    """

    first: Tensor
    last: Tensor
    logprob: Tensor
    at_white: Tensor
    position: Tensor
    token_ids: Tensor
    probability: Tensor


class Guides:
    """Guides of the rows of a healing run.

    Args:
        inputs: With a teacher.
        debias: Whether the probability of a chunk's end is part of its own.
        top_k: Likely next tokens that are kept; 0 for none.
        precision: Of the teacher's products.
        keep: Whether guides are kept for the next time that their row comes.
    """

    def __init__(
        self, inputs: HealInput, *, debias: bool, top_k: int, precision: str, keep: bool = True
    ) -> None:
        assert inputs.teacher_vocabulary is not None, "checked by the healer"
        self.teacher = guiding_model(inputs, precision)
        self.debias, self.precision = debias, precision
        self.texts = align_inputs(inputs)
        config = self.teacher.config.get_text_config(decoder=True)
        self.limit = getattr(config, "max_position_embeddings", None) or 1 << 30
        self.opens = opening_ids(inputs.teacher_vocabulary).to(self.teacher.device)
        self.student_opens = torch.zeros(inputs.vocabulary.vocab_size, dtype=torch.bool)
        self.student_opens[opening_ids(inputs.vocabulary)] = True
        self.top_k = top_k
        if top_k:
            matches = match_tokens(inputs.teacher_vocabulary, inputs.vocabulary)
            shared = [(m.source_ids[0], i) for i, m in enumerate(matches) if m.is_shared]
            self.shared, self.renamed = torch.tensor(shared).unbind(1)
            self.top_k = min(top_k, len(shared))
        self.kept: dict[tuple[bool, int, int], Guide] = {}
        self.most = _KEPT_ROWS if keep else 0

    def of_batch(self, batch: Batch) -> list[Guide]:
        """Return the guides of a batch's rows."""
        length = batch.token_ids.shape[1] - 1
        found = []
        for ids, start, is_replay in zip(
            batch.token_ids, batch.starts, batch.is_replay, strict=True
        ):
            key = (is_replay, start, length)
            guide = self.kept.get(key)
            if guide is None:
                text = self.texts[is_replay]
                assert text is not None
                guide = self._ask(cut_row(text, start, length, self.limit), ids)
                if len(self.kept) < self.most:
                    self.kept[key] = guide
            found.append(guide)
        return found

    @torch.no_grad()
    def _ask(self, row: AlignedRow, student_ids: Tensor) -> Guide:
        """Return the guide of one row."""
        ids = row.teacher_ids[None].to(self.teacher.device)
        logits, logprobs = scored(self.teacher, ids, self.precision)
        at, other = torch.from_numpy(row.student_index), torch.from_numpy(row.teacher_index)
        sums = running_sums(logprobs)[0].cpu()
        x = sums[other[1:]] - sums[other[:-1]]
        at_white = torch.zeros(len(x), dtype=torch.bool)
        # A chunk at the very end of a row has no next token, and so no probability of its end.
        kept = torch.ones(len(x), dtype=torch.bool)
        if self.debias and len(x):
            kept = (at[1:] < len(student_ids) - 1) & (other[1:] < logits.shape[1])
            following = student_ids[at[1:].clamp(max=len(student_ids) - 2) + 1]
            at_white = kept & self.student_opens[following]
            ends = other[1:][at_white].to(ids.device)
            x[at_white] += ending_logprob(logits[0], logprobs[0], ids[0], ends, self.opens).cpu()
        both = (at < len(student_ids) - 1) & (other < logits.shape[1])
        tokens, probability = self._likely(logits[0], other[both])
        return Guide(
            at[:-1][kept], at[1:][kept], x[kept], at_white[kept], at[both], tokens, probability
        )

    def _likely(self, logits: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return the most likely shared next tokens at positions of a teacher's row."""
        if not self.top_k:
            empty = torch.zeros((len(position), 0))
            return empty.long(), empty
        chosen = logits[position.to(logits.device)].softmax(-1)[:, self.shared.to(logits.device)]
        best = chosen.topk(self.top_k, dim=-1)
        return self.renamed[best.indices.cpu()], best.values.cpu()


def scored(
    model: Any, rows: Tensor, precision: str, forward: Callable[..., Tensor] = forward_logits
) -> tuple[Tensor, Tensor]:
    """Return logits and the log-probability of each next token, in float32 or wider.

    Args:
        model: Of any vocabulary.
        rows: Shape (rows, length + 1).
        precision: Of the products.
        forward: In place of `forward_logits`, such as a compiled one.
    Returns:
        Shapes (rows, length, num_embeddings) and (rows, length).
    """
    logits = forward(model, rows[:, :-1], precision)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
    return logits, -nats.view(rows.shape[0], -1)


def running_sums(logprobs: Tensor) -> Tensor:
    """Return sums of the first 0, 1, ... columns, shape (rows, length + 1)."""
    sums = logprobs.double().cumsum(1).to(logprobs.dtype)
    return functional.pad(sums, (1, 0))


def ending_logprob(
    logits: Tensor, logprobs: Tensor, ids: Tensor, ends: Tensor, opens: Tensor
) -> Tensor:
    """Return the log-probability that one of the tokens `opens` follows token `ends`.

    Args:
        logits: Shape (length, num_embeddings).
        logprobs: Of tokens 1 ..., shape (length,).
        ids: Shape (length + 1,).
        ends: Indices of tokens, shape (ends,).
        opens: Ids, shape (opens,).
    """
    total = logits[ends, ids[ends + 1]] - logprobs[ends]
    return logits[ends][:, opens].logsumexp(-1) - total


def opening_ids(vocabulary: Vocabulary) -> Tensor:
    """Return the ids that begin with white space or end a text, shape (ids,), int64."""
    special = int(TokenKind.SPECIAL)
    found = [
        token_id
        for token_id, data in enumerate(vocabulary.tokens)
        if int(vocabulary.kinds[token_id]) == special or data[:1].isspace()
    ]
    return torch.tensor(found, dtype=torch.long)
