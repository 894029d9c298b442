"""Premium: how many times the tokens of the reference language the same text takes.

Source: Petrov et al. 2023, Language Model Tokenizers Introduce Unfairness Between Languages,
    https://arxiv.org/abs/2305.15425 (premium); Arnett et al. 2025, Explaining and Mitigating
    Crosslingual Tokenizer Inequities, https://arxiv.org/abs/2510.21909 (corpus token count)
Differs from the source: intervals by a bootstrap over the aligned passages; the Gini coefficient
    of the token counts says how unequal the languages are as a whole; a language of which more than
    1% becomes unknown tokens has no premium, since its text is lost.
Cost: one encoding of the parallel text.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Series, Witness
from jeton.audit.evidence import AuditInput, FloatArray, IntArray
from jeton.audit.statistics import gini
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Premium:
    """Premium of each language; the value is that of the worst.

    Attributes:
        num_resamples: Resamples of the bootstrap.
    """

    num_resamples: int = 400

    name: ClassVar[str] = "premium"
    needs: ClassVar[tuple[str, ...]] = ("texts", "parallel")
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.num_resamples < 1:
            raise ConfigError(f"num_resamples must be at least 1, got {self.num_resamples}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the worst premium with its 95% interval, and all premiums as groups."""
        reference = given.reference_group
        lost = given.unreadable_groups
        names = [name for name in given.groups if name == reference or name not in lost]
        counts = np.array([given.groups[name].tokens_per_document for name in names])
        base = names.index(reference)
        if counts[base].sum() == 0 or reference in lost:
            why = "has no tokens" if reference not in lost else "becomes unknown tokens"
            return MetricResult(self.name, "Premium", None, detail=f"{reference} {why}")
        premiums = counts.sum(axis=1) / counts[base].sum()
        low, high = _bootstrap(counts, base, self.num_resamples, given.seed)
        others = [i for i in range(len(names)) if i != base]
        if not others:
            detail = f"every language but {reference} becomes unknown tokens"
            return MetricResult(self.name, "Premium", None, detail=detail)
        order = sorted(others, key=lambda i: (-premiums[i], names[i]))
        worst = order[0]
        median = float(np.median(premiums[others]))
        return MetricResult(
            name=self.name,
            title=f"Premium over {reference}",
            value=float(premiums[worst]),
            unit="ratio",
            is_lower_better=True,
            detail=f"worst is {names[worst]}; median {median:.2f} over {len(others)} languages; "
            f"Gini of the token counts {gini(counts.sum(axis=1)):.3f}"
            + (f"; {len(lost)} become unknown tokens: {', '.join(lost[:5])}" if lost else ""),
            groups={names[i]: float(premiums[i]) for i in others},
            witnesses=[
                Witness(None, names[i], f"{premiums[i]:.2f} times, 95%: {low[i]:.2f}-{high[i]:.2f}")
                for i in order[:MAX_WITNESSES]
            ],
            interval=(
                min(float(low[worst]), float(premiums[worst])),
                max(float(high[worst]), float(premiums[worst])),
            ),
            series={
                "low": _series("2.5%", [names[i] for i in order], low[order]),
                "high": _series("97.5%", [names[i] for i in order], high[order]),
            },
        )


def _bootstrap(
    counts: IntArray, base: int, num_resamples: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Return 95% bounds of each group's ratio to the base, passages drawn with replacement."""
    generator = np.random.default_rng(seed)
    size = counts.shape[1]
    draws = generator.multinomial(size, np.full(size, 1 / size), size=num_resamples)
    totals = draws @ counts.T.astype(np.float64)  # (resamples, groups)
    ratios = totals / np.maximum(totals[:, [base]], 1.0)
    low, high = np.percentile(ratios, [2.5, 97.5], axis=0)
    return low, high


def _series(title: str, names: list[str], bounds: FloatArray) -> Series:
    return Series(title, "language", "premium", names, [float(bound) for bound in bounds])
