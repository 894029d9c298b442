"""Under-trained tokens: ids whose embeddings look like those of ids that never occur.

Source: Land & Bartolo 2024, Fishing for Magikarp, https://arxiv.org/abs/2405.05417, section 3.2 and
    3.3 (verification: largest probability over prompts that ask to repeat the token)
Differs from the source: known-unused rows are taken from the audit itself (unused and padding
    rows, ids proven dead, bytes that no UTF-8 text has); the prompts repeat the token bare, so
    that models without instruction tuning understand them.
Cost: one pass over the embedding matrix; with a model, three short forwards per candidate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput, FloatArray, IntArray
from jeton.audit.reachability import Reach
from jeton.core.vocabulary import TokenKind
from jeton.errors import ConfigError

_STRONG, _WEAK = 0.001, 0.1  # section 3.3
_MOST_ASKED = 2000
_CONTROL = 100


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
        detail = f"{len(found):,} text tokens look like the {len(unused):,} unused rows ({how})"
        words = {i: f"indicator {indicator[i]:.4g}, limit {limit:.4g}" for i in found.tolist()}
        groups: dict[str, float] = {}
        if given.model is not None:
            least = ids[np.argsort(indicator[ids], kind="stable")]
            asked = least[: max(1, int(self.max_share * len(ids)))][:_MOST_ASKED]
            largest = largest_probability(given, asked.tolist())
            strong, weak = asked[largest < _STRONG], asked[largest < _WEAK]
            control = least[len(least) // 2 :][:_CONTROL]  # ordinary tokens, for comparison
            fails = int((largest_probability(given, control.tolist()) < _WEAK).sum())
            groups = {
                "asked": float(len(asked)),
                f"largest p < {_STRONG}": float(len(strong)),
                f"largest p < {_WEAK}": float(len(weak)),
                f"of {len(control)} ordinary tokens": float(fails),
            }
            detail += f"; asked to repeat {len(asked):,}, the model fails on {len(weak):,}"
            detail += (
                f", {len(strong):,} of them entirely (of {len(control)} ordinary ones on {fails})"
            )
            found = asked[largest < _WEAK][np.argsort(largest[largest < _WEAK], kind="stable")]
            words = {i: f"p at most {p:.2g}" for i, p in zip(asked.tolist(), largest, strict=True)}
        return MetricResult(
            name=self.name,
            title=title,
            value=float(len(found)),
            is_lower_better=True,
            detail=detail,
            groups=groups,
            witnesses=[
                Witness(i, readable(tokens[i]), words[i]) for i in found[:MAX_WITNESSES].tolist()
            ],
        )


def largest_probability(given: AuditInput, ids: Sequence[int]) -> FloatArray:
    """Return the largest probability of each token over prompts that ask to repeat it."""
    assert given.model is not None
    encode = given.vocabulary.encode_lossy
    start, line, quote = encode("Repeat each line:\n"), encode("\n"), encode('"')
    prompts = [
        prompt
        for i in ids
        for prompt in (
            [*start, i, *line, i, *line, i, *line],
            [*start, *quote, i, *quote, *line, *quote, i, *quote, *line, *quote],
            [*start, *([i] * 4)],
        )
    ]
    answers = [[i] for i in ids for _ in range(3)]
    logprobs = given.model.answer_logprobs(prompts, answers)
    largest: FloatArray = np.exp(logprobs).reshape(-1, 3).max(axis=1)
    return largest


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
