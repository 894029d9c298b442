"""Mean of sub-tokens (FVT): a new token starts as the mean of the rows that used to spell it.

Source: Gee et al. 2022, "Fast Vocabulary Transfer for Language Model Compression",
https://aclanthology.org/2022.emnlp-industry.41
Differs from the source: a token that the source cannot spell starts as the mean of all its rows.
Cost: one encoding per new token; no training.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import Match, match_tokens


@dataclass(frozen=True, slots=True)
class Mean:
    """Copy what is shared, average what is new."""

    copies_shared: ClassVar[bool] = True

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        matches = match_tokens(inputs.source, inputs.destination)
        num_used = inputs.source.vocab_size
        new_input = _average(inputs.input_embeddings[:num_used], matches)
        new_output, new_bias = None, None
        if inputs.output_embeddings is not None:
            new_output = _average(inputs.output_embeddings[:num_used], matches)
        if inputs.output_bias is not None:
            new_bias = _average(inputs.output_bias[:num_used, None], matches)[:, 0]
        num_copied = sum(match.is_shared for match in matches)
        num_fallback = sum(not match.source_ids for match in matches)
        return InitResult(
            input_embeddings=new_input,
            output_embeddings=new_output,
            output_bias=new_bias,
            num_copied=num_copied,
            num_composed=len(matches) - num_copied - num_fallback,
            num_fallback=num_fallback,
        )


def _average(rows: Tensor, matches: list[Match]) -> Tensor:
    """Return (destination vocab_size, columns): each row the mean of its matched source rows."""
    result = torch.empty(len(matches), rows.shape[1], dtype=rows.dtype)
    mean_of_all = rows.float().mean(0).to(rows.dtype)
    for index, match in enumerate(matches):
        if not match.source_ids:
            result[index] = mean_of_all
        elif len(match.source_ids) == 1:
            result[index] = rows[match.source_ids[0]]
        else:
            result[index] = rows[list(match.source_ids)].float().mean(0).to(rows.dtype)
    return result
