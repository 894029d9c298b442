"""CW2V: new rows inside the convex hull of the source's, their weights learned by skip-gram.

Source: Mundra et al. 2024, "An Empirical Comparison of Vocabulary Expansion and Initialization
Approaches for Language Models", https://arxiv.org/abs/2407.05841, section 4: E_new = W E_source,
each row of W a softmax, trained by word2vec (skip-gram with negative samples) on the new text.
Differs from the source: a row of W is free on the token's own parts and the nearest source tokens
only, and starts near the parts (all of W would be new x source); the dot products are taken in a
random projection of the rows; rows of shared tokens stay as they are.
Cost: a few hundred steps over pairs of neighbouring tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jeton.errors import ConfigError
from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import Match, match_tokens
from jeton.transfer.rows import Combination, compose
from jeton.transfer.static_vectors import (
    Sequences,
    encodable,
    joint_vectors,
    nearest,
    ordinary_ids,
    sample_texts,
    tokenize,
)

_PROJECTION = 128  # columns of the random projection


@dataclass(frozen=True, slots=True)
class Cw2v:
    """Options.

    Attributes:
        neighbors: Source tokens beside its parts that a token may use.
        num_steps: Of the skip-gram training.
        batch_pairs: Pairs of neighbouring tokens per step.
        negatives: Random tokens per pair.
        lr: Learning rate of the weights (Adam).
        dim: Columns of the static vectors that choose the neighbours.
        sample_bytes: Text to learn from.
    """

    neighbors: int = 8
    num_steps: int = 200
    batch_pairs: int = 2048
    negatives: int = 5
    lr: float = 0.03
    dim: int = 64
    sample_bytes: int = 2_000_000

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.neighbors, self.batch_pairs, self.negatives, self.dim) < 1:
            raise ConfigError("neighbors, batch_pairs, negatives and dim must be at least 1")
        if self.num_steps < 0 or self.lr <= 0:
            raise ConfigError("num_steps must not be negative, lr must be above 0")

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        matches = match_tokens(inputs.source, inputs.destination)
        new_ids = [i for i, m in enumerate(matches) if not m.is_shared and m.source_ids]
        texts = sample_texts(inputs.texts, self.sample_bytes)
        texts = encodable(texts, inputs.source, inputs.destination)
        if not new_ids or not texts:
            return compose(inputs, matches, {})
        support, scores = self._support(inputs, matches, new_ids, texts)
        sequence = tokenize(inputs.destination, texts)
        weights = self._train(inputs, matches, new_ids, support, scores, sequence)
        combinations = {}
        for token_id, ids, shares in zip(new_ids, support, weights, strict=True):
            used = shares > 0
            combinations[token_id] = Combination(ids[used].tolist(), shares[used].tolist())
        return compose(inputs, matches, combinations)

    def _support(
        self, inputs: InitInput, matches: Sequence[Match], new_ids: list[int], texts: list[str]
    ) -> tuple[Tensor, Tensor]:
        """Return source ids and first scores of each new token, -inf where a place is unused."""
        old, new = joint_vectors(
            inputs.source, inputs.destination, texts, dim=self.dim, seed=inputs.seed
        )
        keys = ordinary_ids(inputs.source, old)
        near = torch.zeros((len(new_ids), 0), dtype=torch.long)
        if len(keys):
            asked = new[torch.tensor(new_ids)]
            near = keys[nearest(asked, old[keys], min(self.neighbors, len(keys)))[1]]
        longest = max(len(matches[i].source_ids) for i in new_ids)
        parts = torch.zeros((len(new_ids), longest), dtype=torch.long)
        scores = torch.full((len(new_ids), longest), -torch.inf)
        for row, token_id in enumerate(new_ids):
            ids = matches[token_id].source_ids
            parts[row, : len(ids)] = torch.tensor(ids)
            scores[row, : len(ids)] = 0.0
        # A neighbour starts with a twentieth of a part's share.
        return torch.cat([parts, near], 1), torch.cat([scores, torch.full(near.shape, -3.0)], 1)

    def _train(
        self,
        inputs: InitInput,
        matches: Sequence[Match],
        new_ids: list[int],
        support: Tensor,
        scores: Tensor,
        sequence: Sequences,
    ) -> Tensor:
        """Return the convex weights, shape of `support`, after skip-gram training."""
        rows = _projected(inputs.input_embeddings[: inputs.source.vocab_size], inputs.seed)
        place = torch.full((len(matches),), -1)
        place[torch.tensor(new_ids)] = torch.arange(len(new_ids))
        fixed = torch.zeros(len(matches), dtype=torch.long)
        for token_id, match in enumerate(matches):
            if match.is_shared:
                fixed[token_id] = match.source_ids[0]
        is_usable = torch.tensor([m.is_shared for m in matches]) | (place >= 0)
        free = scores.clone().requires_grad_(True)
        scale = torch.ones((), requires_grad=True)
        optimizer = torch.optim.Adam([free, scale], lr=self.lr)
        rng = np.random.default_rng(inputs.seed)
        ids = torch.from_numpy(sequence.ids)
        ids = ids[is_usable[ids]]
        if len(ids) < 3:
            return free.detach().softmax(1)

        def vector(tokens: Tensor) -> Tensor:
            made = rows[fixed[tokens]].clone()
            is_new = place[tokens] >= 0
            where = place[tokens[is_new]]
            shares = free[where].softmax(1)
            made[is_new] = (shares[:, None] @ rows[support[where]])[:, 0]
            return made

        with torch.enable_grad():
            for _ in range(self.num_steps):
                at = torch.from_numpy(rng.integers(0, len(ids) - 2, self.batch_pairs))
                other = at + torch.from_numpy(rng.integers(1, 3, self.batch_pairs))
                noise = ids[torch.from_numpy(rng.integers(0, len(ids), self.negatives))]
                center, context = vector(ids[at]), vector(ids[other])
                positive = scale * (center * context).sum(1)
                negative = scale * center @ vector(noise).T
                loss = -functional.logsigmoid(positive) - functional.logsigmoid(-negative).sum(1)
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()
        return free.detach().softmax(1)


def _projected(rows: Tensor, seed: int) -> Tensor:
    """Return centred rows of unit root mean square length in a random projection."""
    exact = rows.float() - rows.float().mean(0)
    if exact.shape[1] > _PROJECTION:
        generator = torch.Generator().manual_seed(seed)
        shape = (exact.shape[1], _PROJECTION)
        exact = exact @ torch.randn(shape, generator=generator) / _PROJECTION**0.5
    length: Tensor = exact.square().sum(1).mean().sqrt().clamp_min(1e-12)
    return exact / length
