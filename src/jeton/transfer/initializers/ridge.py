"""Ridge map: predict a token's row from the rows of its parts, as the source's own tokens teach.

Source: this project, docs/transfer.md; the source vocabulary itself holds examples of what a
token's row is when its parts are known. Ridge regression after Hoerl and Kennard 1970.
Differs from the source: nothing.
Cost: one encoding per new token, and one small linear system.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.core.encode import LongestMatch
from jeton.core.vocabulary import TokenKind, Vocabulary
from jeton.errors import ConfigError
from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import match_tokens
from jeton.transfer.rows import compose

_BLOCK = 4096
_STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True, slots=True)
class Ridge:
    """Options.

    Attributes:
        strength: Of the penalty, relative to the mean square of the features; 0 picks the one
            that predicts a held-out fifth of the source's tokens best.
        directions: Leading directions of the rows that the features hold of each part; more follow
            the noise of rare tokens (docs/log.md).
    """

    strength: float = 0.0
    directions: int = 32

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise ConfigError(f"strength must not be negative, got {self.strength}")
        if self.directions < 1:
            raise ConfigError(f"directions must be at least 1, got {self.directions}")

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        matches = match_tokens(inputs.source, inputs.destination)
        result = compose(inputs, matches, {})
        new = {i: m.source_ids for i, m in enumerate(matches) if not m.is_shared and m.source_ids}
        known = decompose_own(inputs.source)
        if not new or len(known) < 10:
            return result
        num_used = inputs.source.vocab_size
        self._predict(result.input_embeddings, inputs.input_embeddings[:num_used], known, new)
        if inputs.output_embeddings is not None and result.output_embeddings is not None:
            self._predict(result.output_embeddings, inputs.output_embeddings[:num_used], known, new)
        if inputs.output_bias is not None and result.output_bias is not None:
            column, bias = result.output_bias[:, None], inputs.output_bias[:num_used, None]
            self._predict(column, bias, known, new)
        return result

    def _predict(
        self,
        result: Tensor,
        rows: Tensor,
        known: dict[int, tuple[int, ...]],
        new: dict[int, tuple[int, ...]],
    ) -> None:
        """Overwrite the rows of `new`, in place."""
        exact = rows.double() if rows.dtype == torch.float64 else rows.float()
        center = exact.mean(0)
        exact = exact - center
        seen = narrow(exact, self.directions)
        weights = fit(exact, seen, known, self.strength)
        ids = list(new)
        for start in range(0, len(ids), _BLOCK):
            block = ids[start : start + _BLOCK]
            parts = [new[i] for i in block]
            made = _means(exact, parts) + features(seen, parts) @ weights + center
            result[torch.tensor(block)] = made.to(result.dtype)


def decompose_own(vocabulary: Vocabulary) -> dict[int, tuple[int, ...]]:
    """Return the parts of each ordinary token that other tokens can spell.

    By the merge that makes the token where there is one, else by longest match without it.
    """
    found: dict[int, tuple[int, ...]] = {}
    for left, right, made in vocabulary.merges.tolist():
        found.setdefault(made, (left, right))
    if not found:
        kinds = vocabulary.kinds
        tokens = [
            b"" if kinds[i] in (TokenKind.SPECIAL, TokenKind.UNUSED) else token
            for i, token in enumerate(vocabulary.tokens)
        ]
        matcher = LongestMatch(tokens)
        for token_id, token in enumerate(tokens):
            if len(token) < 2:
                continue
            head = matcher.encode(token[:-1])  # shorter than the token: it cannot match itself
            found[token_id] = (*head, *matcher.encode(token[-1:]))
    return found


def narrow(rows: Tensor, width: int) -> Tensor:
    """Return the rows along their leading directions, `width` of them; narrower rows as they are.

    The directions come from a seeded randomised SVD (Halko et al. 2011).
    """
    if rows.shape[1] <= width:
        return rows
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        directions = torch.svd_lowrank(rows, q=width, niter=1)[2]
    return rows @ directions


def features(rows: Tensor, parts: Sequence[tuple[int, ...]]) -> Tensor:
    """Return mean, first and last row of the parts side by side, shape (tokens, 3 columns)."""
    first = rows[torch.tensor([p[0] for p in parts])]
    last = rows[torch.tensor([p[-1] for p in parts])]
    return torch.cat([_means(rows, parts), first, last], 1)


def fit(rows: Tensor, seen: Tensor, known: dict[int, tuple[int, ...]], strength: float) -> Tensor:
    """Return the map W from features to what the mean of the parts misses, by ridge regression.

    W = (F'F + s I)^-1 F'(row - mean), with s relative to the mean of the diagonal of F'F.

    Args:
        rows: Centred, shape (vocab_size, columns).
        seen: What features are made of, shape (vocab_size, fewer columns); see `narrow`.
        known: Parts of the source's own tokens.
        strength: As in `Ridge`.
    """
    ids = sorted(known)
    parts = [known[i] for i in ids]
    given, wanted = features(seen, parts), rows[torch.tensor(ids)] - _means(rows, parts)
    gram, moment = given.T @ given, given.T @ wanted
    if strength == 0:
        is_held_out = torch.arange(len(ids)) % 5 == 0
        given, wanted = given[is_held_out], wanted[is_held_out]
        own, onto = given.T @ given, given.T @ wanted
        errors = []
        for s in _STRENGTHS:
            weights = _solve(gram - own, moment - onto, s)
            # |given W - wanted|^2 without its constant part, from the products that are there.
            error = ((own @ weights - 2 * onto) * weights).sum().item()
            errors.append((error, s))
        strength = min(errors)[1]
    return _solve(gram, moment, strength)


def _solve(gram: Tensor, moment: Tensor, strength: float) -> Tensor:
    size = gram.diagonal().mean().clamp_min(1e-12)
    gram = gram + strength * size * torch.eye(len(gram), dtype=gram.dtype)
    solved: Tensor = torch.linalg.solve(gram, moment)
    return solved


def _means(rows: Tensor, parts: Sequence[tuple[int, ...]]) -> Tensor:
    flat = torch.tensor([i for part in parts for i in part])
    lengths = torch.tensor([len(part) for part in parts])
    offsets = lengths.cumsum(0) - lengths
    return torch.nn.functional.embedding_bag(flat, rows, offsets, mode="mean")
