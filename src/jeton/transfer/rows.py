"""Write destination rows as copies or sparse combinations of source rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import Match

_BLOCK = 8192  # rows composed at a time; bounds the memory beside the result


@dataclass(frozen=True, slots=True)
class Combination:
    """One new row as a weighted sum of source rows; both sequences have the same length."""

    source_ids: Sequence[int]
    weights: Sequence[float]


def mean_of(source_ids: Sequence[int]) -> Combination:
    """Return the combination that averages source rows."""
    return Combination(source_ids, [1 / len(source_ids)] * len(source_ids))


def compose(
    inputs: InitInput, matches: Sequence[Match], combinations: Mapping[int, Combination]
) -> InitResult:
    """Return the destination matrices.

    The same weights apply to the input and output matrices and to the bias.

    Args:
        inputs: The source's matrices.
        matches: One per destination id; shared ones are copied bit for bit.
        combinations: Of new destination ids. A new token without one starts as the mean of the
            rows that spelled it, and as the mean of all rows where nothing spells it.
    """
    chosen: dict[int, Combination] = {}
    for token_id, match in enumerate(matches):
        if match.is_shared:
            continue
        if token_id in combinations:
            chosen[token_id] = combinations[token_id]
        elif match.source_ids:
            chosen[token_id] = mean_of(match.source_ids)
    num_used = inputs.source.vocab_size
    new_output, new_bias = None, None
    if inputs.output_embeddings is not None:
        new_output = _combine(inputs.output_embeddings[:num_used], matches, chosen)
    if inputs.output_bias is not None:
        new_bias = _combine(inputs.output_bias[:num_used, None], matches, chosen)[:, 0]
    num_copied = sum(match.is_shared for match in matches)
    return InitResult(
        input_embeddings=_combine(inputs.input_embeddings[:num_used], matches, chosen),
        output_embeddings=new_output,
        output_bias=new_bias,
        num_copied=num_copied,
        num_composed=len(chosen),
        num_fallback=len(matches) - num_copied - len(chosen),
    )


def _combine(rows: Tensor, matches: Sequence[Match], chosen: Mapping[int, Combination]) -> Tensor:
    """Return (destination vocab_size, columns) in the dtype of `rows`."""
    exact = rows if rows.dtype in (torch.float32, torch.float64) else rows.float()
    result = exact.mean(0).to(rows.dtype).repeat(len(matches), 1)
    shared = [(i, match.source_ids[0]) for i, match in enumerate(matches) if match.is_shared]
    if shared:
        to, taken = torch.tensor(shared).unbind(1)
        result[to] = rows[taken]
    new_ids = list(chosen)
    for start in range(0, len(new_ids), _BLOCK):
        block = new_ids[start : start + _BLOCK]
        ids: list[int] = []
        weights: list[float] = []
        offsets: list[int] = []
        for token_id in block:
            offsets.append(len(ids))
            ids.extend(chosen[token_id].source_ids)
            weights.extend(chosen[token_id].weights)
        result[torch.tensor(block)] = functional.embedding_bag(
            torch.tensor(ids),
            exact,
            torch.tensor(offsets),
            mode="sum",
            per_sample_weights=torch.tensor(weights, dtype=exact.dtype),
        ).to(rows.dtype)
    return result
