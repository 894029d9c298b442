"""Rényi efficiency: how evenly a text spreads over the vocabulary.

Source: Zouhar et al. 2023, Tokenization and the Noiseless Channel, https://arxiv.org/abs/2306.16842,
    Eq. 11 with alpha = 2.5 (the order that tracked translation quality best)
Differs from the source: nothing; the authors' package divides by the log of the types that
    occur, the paper by that of the vocabulary; `types` in `groups` gives the former.
Cost: one encoding of the text.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MetricResult
from jeton.audit.evidence import AuditInput, IntArray
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RenyiEfficiency:
    """Rényi entropy of the unigram distribution over its maximum.

    Attributes:
        alpha: Order of the entropy; 1 is Shannon's.
    """

    alpha: float = 2.5

    name: ClassVar[str] = "renyi_efficiency"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"alpha must be positive and finite, got {self.alpha}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the efficiency in [0, 1]."""
        num_types = len(given.text_ids)
        entropy = renyi_entropy(given.token_counts, self.alpha)
        observed = int((given.token_counts > 0).sum())
        groups = {
            name: renyi_entropy(group.token_counts, self.alpha) / math.log(num_types)
            for name, group in given.groups.items()
            if num_types > 1 and group.num_tokens
        }
        return MetricResult(
            name=self.name,
            title=f"Rényi efficiency (order {self.alpha:g})",
            value=entropy / math.log(num_types) if num_types > 1 else None,
            unit="share",
            is_lower_better=False,
            detail=f"{entropy / math.log(2):.2f} bits of {math.log2(max(2, num_types)):.2f}; "
            f"over the {observed:,} types that occur: {_over(entropy, observed)}",
            groups=groups,
        )


def renyi_entropy(counts: IntArray, alpha: float) -> float:
    """Return the Rényi entropy of a distribution of counts, in nats.

    Args:
        counts: Occurrences, shape (types,); zeros are allowed.
        alpha: Order; 1 gives Shannon's entropy.

    Example:
        >>> round(renyi_entropy(np.array([1, 1, 1, 1]), 2.5) / math.log(2), 6)
        2.0
    """
    positive = counts[counts > 0]
    if not len(positive):
        return 0.0
    shares = positive / positive.sum()
    if abs(alpha - 1) < 1e-9:
        return float(-(shares * np.log(shares)).sum()) + 0.0
    return float(np.log((shares**alpha).sum()) / (1 - alpha)) + 0.0


def _over(entropy: float, observed: int) -> str:
    return f"{entropy / math.log(observed):.3f}" if observed > 1 else "n/a"
