"""Under-trained tokens: ids whose embeddings look like those of ids that never occur.

Source: Land & Bartolo 2024, Fishing for Magikarp, https://arxiv.org/abs/2405.05417, section 3.2
Differs from the source: known-unused rows are taken from the audit itself (unused and padding
    rows, ids proven dead, bytes that no UTF-8 text has); candidates are not verified by prompts,
    which needs the model.
Cost: one pass over the embedding matrix.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput, FloatArray, IntArray
from jeton.audit.reachability import Reach
from jeton.core.vocabulary import TokenKind
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class UnderTrained:
    """Number of text tokens at least as unusual as the known-unused rows.

    Attributes:
        max_share: Never more than this share of the tokens are named (the paper verifies 2%).
    """

    max_share: float = 0.02

    name: ClassVar[str] = "under_trained"
    needs: ClassVar[tuple[str, ...]] = ("embeddings",)
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.max_share <= 1:
            raise ConfigError(f"max_share must be in (0, 1], got {self.max_share}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the number of candidates; witnesses are the most unusual."""
        assert given.embeddings is not None
        title = "Under-trained tokens"
        unused = _known_unused(given)
        if not len(unused):
            detail = "no row is known to be unused, so there is nothing to compare with"
            return MetricResult(self.name, title, None, detail=detail)
        matrix, output = given.embeddings.input, given.embeddings.output
        if output is None:
            indicator = cosine_distance(matrix, matrix[unused].mean(axis=0))
            how = "distance of the tied rows to the mean of unused rows"
        else:
            indicator = np.linalg.norm(np.asarray(matrix, dtype=np.float64), axis=1)
            how = "norm of the input rows"
        is_unused = np.isin(given.text_ids, unused)
        ids = given.text_ids[~is_unused]
        limit = float(indicator[unused].max())
        found = ids[indicator[ids] <= limit]
        found = found[np.argsort(indicator[found], kind="stable")]
        found = found[: int(self.max_share * len(ids)) + 1]
        tokens = given.vocabulary.tokens
        return MetricResult(
            name=self.name,
            title=title,
            value=float(len(found)),
            is_lower_better=True,
            detail=f"{len(found):,} text tokens look like the {len(unused):,} unused rows ({how})",
            witnesses=[
                Witness(i, readable(tokens[i]), f"indicator {indicator[i]:.4g}, limit {limit:.4g}")
                for i in found[:MAX_WITNESSES].tolist()
            ],
        )


def _known_unused(given: AuditInput) -> IntArray:
    """Return rows that no training text can have touched."""
    states = given.reachability.states
    kinds = np.asarray(given.vocabulary.kinds)
    never = (kinds == TokenKind.UNUSED) | np.isin(states, (Reach.DEAD, Reach.BYTES_ONLY))
    assert given.embeddings is not None
    padding = np.arange(len(kinds), len(given.embeddings.input))
    return np.concatenate((np.flatnonzero(never), padding))


def cosine_distance(matrix: FloatArray, direction: FloatArray) -> FloatArray:
    """Return one minus the cosine of each row with a direction, shape (rows,).

    Example:
        >>> cosine_distance(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.0]))
        array([0., 1.])
    """
    rows = np.asarray(matrix, dtype=np.float64)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(direction)
    return np.asarray(1 - rows @ direction / np.maximum(norms, 1e-30))
