"""TokenAdapt: a mix of the parts that spelled a token and of the source tokens that mean the same.

Source: Sharthak et al. 2025, "Achieving Tokenizer Flexibility in Language Models through Heuristic
Adaptation and Supertoken Learning", https://arxiv.org/abs/2505.09738. Local: parts weighted by
softmax((similarity + 1 / parts + share of the length) / T). Global: the k most similar source
tokens, softmax(similarity / T). Row = w global + (1 - w) local.
Differs from the source: the auxiliary embedding is learned on the user's text (PPMI and SVD of
both tokenizations in one space) instead of a downloaded text encoder.
Cost: one pass over the text, and a table of cosines of new against source tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import match_tokens
from jeton.transfer.rows import Combination, compose
from jeton.transfer.static_vectors import (
    encodable,
    joint_vectors,
    nearest,
    ordinary_ids,
    sample_texts,
)


@dataclass(frozen=True, slots=True)
class TokenAdapt:
    """Options.

    Attributes:
        global_weight: Share of the similar tokens (w); the parts have the rest.
        neighbors: Similar tokens (k).
        temperature: Of both softmaxes (T).
        dim: Columns of the auxiliary vectors.
        sample_bytes: Text to learn them from.
    """

    global_weight: float = 0.3
    neighbors: int = 10
    temperature: float = 0.3
    dim: int = 128
    sample_bytes: int = 4_000_000

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.global_weight <= 1:
            raise ConfigError(f"global_weight must lie in [0, 1], got {self.global_weight}")
        if self.neighbors < 1 or self.temperature <= 0 or self.dim < 1:
            raise ConfigError("neighbors and dim must be at least 1, temperature above 0")

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        matches = match_tokens(inputs.source, inputs.destination)
        new_ids = [i for i, match in enumerate(matches) if not match.is_shared]
        if not new_ids:
            return compose(inputs, matches, {})
        texts = sample_texts(inputs.texts, self.sample_bytes)
        old, new = joint_vectors(
            inputs.source,
            inputs.destination,
            encodable(texts, inputs.source, inputs.destination),
            dim=self.dim,
            seed=inputs.seed,
        )
        similar = self._similar(inputs, old, new, new_ids)
        combinations = {}
        for token_id in new_ids:
            parts = matches[token_id].source_ids
            if not parts:
                if token_id in similar:
                    combinations[token_id] = similar[token_id]
                continue
            lengths = [len(inputs.source.tokens[part]) for part in parts]
            cosines = (old[list(parts)] @ new[token_id]).tolist()
            local = Combination(parts, local_weights(cosines, lengths, self.temperature))
            combinations[token_id] = self._hybrid(local, similar.get(token_id))
        return compose(inputs, matches, combinations)

    def _hybrid(self, local: Combination, other: Combination | None) -> Combination:
        if other is None:
            return local
        w = self.global_weight
        return Combination(
            [*local.source_ids, *other.source_ids],
            [(1 - w) * x for x in local.weights] + [w * x for x in other.weights],
        )

    def _similar(
        self, inputs: InitInput, old: Tensor, new: Tensor, new_ids: list[int]
    ) -> dict[int, Combination]:
        """Return the global part of the tokens that occur in the text."""
        keys = ordinary_ids(inputs.source, old)
        if not len(keys):
            return {}
        asked = torch.tensor(new_ids)
        asked = asked[new[asked].abs().sum(1) > 0]
        cosines, places = nearest(new[asked], old[keys], min(self.neighbors, len(keys)))
        weights = (cosines / self.temperature).softmax(1)
        rows = zip(asked.tolist(), keys[places].tolist(), weights.tolist(), strict=True)
        return {token_id: Combination(ids, shares) for token_id, ids, shares in rows}


def local_weights(
    cosines: Sequence[float], lengths: Sequence[int], temperature: float
) -> list[float]:
    """Return the weights of a token's parts.

    Args:
        cosines: Similarity of each part to the token; a negative one counts as none.
        lengths: Bytes of each part.
        temperature: Of the softmax.
    Example:
        >>> [round(w, 3) for w in local_weights([0.5, 0.0], [3, 1], 0.3)]
        [0.966, 0.034]
    """
    similarity = torch.tensor(cosines, dtype=torch.float64).clamp_min(0)
    share = torch.tensor(lengths, dtype=torch.float64) / sum(lengths)
    weights: list[float] = (
        ((similarity + 1 / len(lengths) + share) / temperature).softmax(0).tolist()
    )
    return weights
