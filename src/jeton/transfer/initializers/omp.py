"""OMP: a new token as a sparse combination of shared tokens, solved in a donor's embedding space.

Source: Goddard and Fernandes Neto 2025, "Training-Free Tokenizer Transplantation via Orthogonal
Matching Pursuit", https://arxiv.org/abs/2506.06607; the pursuit after Pati et al. 1993.
Differs from the source: a small ridge bounds the coefficients, which otherwise extrapolate; the
pursuit chooses among the nearest shared tokens only; without a donor model the space is that of
static vectors learned on the user's text in the destination's tokenization.
Cost: cosines of new against shared tokens, then one small linear system per token and step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.lm.load import load_model
from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import Match, match_tokens
from jeton.transfer.rows import Combination, compose
from jeton.transfer.static_vectors import (
    cooccurrence_vectors,
    encodable,
    nearest,
    ordinary_ids,
    sample_texts,
    tokenize,
)

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Omp:
    """Options.

    Attributes:
        num_atoms: Shared tokens that make a row (k).
        ridge: Penalty on the coefficients, relative to unit vectors; 0 is the source's system.
        candidates: Nearest shared tokens that the pursuit may choose from.
        donor: Folder of a model whose embeddings know the new tokens; empty for static vectors.
        dim: Columns of static vectors.
        sample_bytes: Text to learn them from.
    """

    num_atoms: int = 8
    ridge: float = 0.1
    candidates: int = 128
    donor: str = ""
    dim: int = 128
    sample_bytes: int = 4_000_000

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.num_atoms < 1 or self.candidates < self.num_atoms or self.dim < 1:
            raise ConfigError("num_atoms and dim must be at least 1, candidates at least num_atoms")
        if self.ridge < 0:
            raise ConfigError(f"ridge must not be negative, got {self.ridge}")

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        matches = match_tokens(inputs.source, inputs.destination)
        new_ids = torch.tensor([i for i, m in enumerate(matches) if not m.is_shared])
        if not len(new_ids):
            return compose(inputs, matches, {})
        space = self._space(inputs)
        return compose(inputs, matches, self._combinations(inputs, matches, space, new_ids))

    def _space(self, inputs: InitInput) -> Tensor:
        """Return a unit vector per destination token, zero where there is none."""
        if not self.donor:
            texts = encodable(sample_texts(inputs.texts, self.sample_bytes), inputs.destination)
            sequence = tokenize(inputs.destination, texts)
            return cooccurrence_vectors(sequence, sequence, dim=self.dim, seed=inputs.seed)
        donor = load_model(self.donor, dtype="float32")
        embedding: Any = donor.model.get_input_embeddings()
        rows: Tensor = embedding.weight.detach()
        space = torch.zeros(inputs.destination.vocab_size, rows.shape[1])
        for token_id, match in enumerate(match_tokens(donor.vocabulary, inputs.destination)):
            if match.is_shared:
                space[token_id] = rows[match.source_ids[0]]
        return torch.nn.functional.normalize(space)

    def _combinations(
        self, inputs: InitInput, matches: Sequence[Match], space: Tensor, new_ids: Tensor
    ) -> dict[int, Combination]:
        is_shared = torch.tensor([m.is_shared for m in matches])
        seen = ordinary_ids(inputs.destination, space)
        anchors = seen[is_shared[seen]]
        new_ids = new_ids[space[new_ids].abs().sum(1) > 0]
        if not len(anchors):
            return {}
        sources = torch.tensor([matches[key].source_ids[0] for key in anchors.tolist()])
        combinations = {}
        for block in new_ids.split(_BLOCK):
            _, near = nearest(space[block], space[anchors], min(self.candidates, len(anchors)))
            atoms = space[anchors][near]  # (block, candidates, dim)
            chosen, weights = pursue(space[block], atoms, self.num_atoms, self.ridge)
            ids = sources[near.gather(1, chosen)]
            for token_id, used, shares in zip(
                block.tolist(), ids.tolist(), weights.tolist(), strict=True
            ):
                combinations[token_id] = Combination(used, shares)
        return combinations


def pursue(targets: Tensor, atoms: Tensor, num_atoms: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Return the atoms that orthogonal matching pursuit chooses, and their coefficients.

    Each step takes the atom most correlated with the residual and solves for all chosen ones again.

    Args:
        targets: Shape (targets, dim).
        atoms: Unit vectors to choose from, shape (targets, candidates, dim).
        num_atoms: Steps, at most the number of candidates.
        ridge: Added to the diagonal of the normal equations.
    Returns:
        Places among the candidates and coefficients, each of shape (targets, steps).
    """
    steps = min(num_atoms, atoms.shape[1])
    gram = atoms @ atoms.transpose(1, 2)
    onto = (atoms @ targets[:, :, None])[:, :, 0]  # correlation with the target itself
    batch = torch.arange(len(targets))[:, None]
    chosen = torch.zeros((len(targets), 0), dtype=torch.long)
    weights = torch.zeros((len(targets), 0), dtype=targets.dtype)
    for _ in range(steps):
        explained = (gram[batch, chosen].transpose(1, 2) @ weights[:, :, None])[:, :, 0]
        correlation = (onto - explained).abs().scatter(1, chosen, -1.0)
        chosen = torch.cat([chosen, correlation.argmax(1, keepdim=True)], 1)
        size = chosen.shape[1]
        system = gram[batch[:, :, None], chosen[:, :, None], chosen[:, None, :]]
        system = system + max(ridge, 1e-6) * torch.eye(size, dtype=system.dtype)
        weights = torch.linalg.solve(system, onto.gather(1, chosen))
    return chosen, weights
