"""FOCUS: a new token is a sparse mix of the shared tokens that are near it in an auxiliary space.

Source: Dobler and de Melo 2023, "FOCUS", https://arxiv.org/abs/2305.14481, section 3: vectors of
the destination's tokens are trained on text in the destination's tokenization; weights are the
sparsemax of the similarities to the shared tokens (Martins and Astudillo 2016).
Differs from the source: PPMI and SVD in the place of fastText; a token that the text does not
contain starts as the mean of its sub-tokens, where the source draws a random row.
Cost: one pass over the text, and a table of cosines of new against shared tokens.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import match_tokens
from jeton.transfer.rows import Combination, compose
from jeton.transfer.static_vectors import (
    cooccurrence_vectors,
    encodable,
    nearest,
    ordinary_ids,
    sample_texts,
    tokenize,
)

_SUPPORTS = (64, 512)  # neighbours that sparsemax looks at: more where it uses all, 512 at most


@dataclass(frozen=True, slots=True)
class Focus:
    """Options.

    Attributes:
        temperature: Similarities are divided by it before the sparsemax; the source has 1.
        dim: Columns of the auxiliary vectors.
        sample_bytes: Text to learn them from.
    """

    temperature: float = 1.0
    dim: int = 128
    sample_bytes: int = 4_000_000

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.dim < 1:
            raise ConfigError("temperature must be above 0 and dim at least 1")

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        matches = match_tokens(inputs.source, inputs.destination)
        new_ids = torch.tensor([i for i, m in enumerate(matches) if not m.is_shared])
        if not len(new_ids):
            return compose(inputs, matches, {})
        texts = encodable(sample_texts(inputs.texts, self.sample_bytes), inputs.destination)
        sequence = tokenize(inputs.destination, texts)
        vectors = cooccurrence_vectors(sequence, sequence, dim=self.dim, seed=inputs.seed)
        is_shared = torch.tensor([m.is_shared for m in matches])
        seen = ordinary_ids(inputs.destination, vectors)
        keys = seen[is_shared[seen]]
        new_ids = new_ids[vectors[new_ids].abs().sum(1) > 0]
        if not len(keys):
            return compose(inputs, matches, {})
        sources = torch.tensor([matches[key].source_ids[0] for key in keys.tolist()])
        combinations = {}
        for support in _SUPPORTS:
            cosines, places = nearest(vectors[new_ids], vectors[keys], min(support, len(keys)))
            weights = sparsemax(cosines / self.temperature)
            sizes = (weights > 0).sum(1)
            rows = zip(new_ids.tolist(), sources[places], weights, sizes.tolist(), strict=True)
            for token_id, ids, shares, size in rows:
                combinations[token_id] = Combination(ids[:size].tolist(), shares[:size].tolist())
            new_ids = new_ids[sizes == support]
        return compose(inputs, matches, combinations)


def sparsemax(scores: Tensor) -> Tensor:
    """Return the projection of scores onto the simplex (Martins and Astudillo 2016, algorithm 1).

    Args:
        scores: Shape (rows, columns), each row in descending order.
    Returns:
        The same shape, rows that sum to one.
    """
    columns = torch.arange(1, scores.shape[1] + 1)
    sums = scores.cumsum(1)
    size = (1 + columns * scores > sums).sum(1, keepdim=True)  # of the support
    threshold = (sums.gather(1, size - 1) - 1) / size
    return (scores - threshold).clamp_min(0)
