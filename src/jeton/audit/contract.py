"""What every metric of a vocabulary takes and gives.

Laws, tested over every row of the registry:
1. A metric is a pure function of its input: the same input gives the same result, in any order of
   groups, and truncation or padding stored in the tokenizer's file changes nothing.
2. `value` is a finite float or None; None comes with a `detail` that says what was missing.
3. A metric that `is_per_token` depends on the text through counts only: doubling every document
   leaves its figures as they are.
4. A figure names its evidence: up to `MAX_WITNESSES` tokens or strings that anyone can check.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from jeton.audit.evidence import AuditInput

MAX_WITNESSES = 20


@dataclass(frozen=True, slots=True)
class Witness:
    """One piece of evidence behind a figure.

    Attributes:
        token_id: The token concerned; None when the evidence is a string.
        token: Its bytes, readable.
        detail: What was found, in words.
    """

    token_id: int | None
    token: str
    detail: str


@dataclass(frozen=True, slots=True)
class Series:
    """Points or bars behind a picture.

    Attributes:
        title: What is drawn.
        x_label: Meaning of `x`.
        y_label: Meaning of `y`.
        x: Positions or labels.
        y: Heights, as many as `x`.
    """

    title: str
    x_label: str
    y_label: str
    x: list[float] | list[str]
    y: list[float]


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One figure of an audit.

    Attributes:
        name: Name of the metric in the registry.
        title: For people.
        value: The figure; None when it cannot be had from this input (see `detail`).
        unit: Unit of `value`; empty for counts and ratios.
        is_lower_better: None when neither direction is better.
        detail: One or two sentences: what the value says here.
        groups: The same figure for each group of texts (language, domain), or its parts.
        witnesses: Evidence, at most `MAX_WITNESSES`.
        interval: 95% interval of `value`, when it was estimated from a sample.
        series: Data for pictures.
    """

    name: str
    title: str
    value: float | None
    unit: str = ""
    is_lower_better: bool | None = None
    detail: str = ""
    groups: dict[str, float] = field(default_factory=dict)
    witnesses: list[Witness] = field(default_factory=list)
    interval: tuple[float, float] | None = None
    series: dict[str, Series] = field(default_factory=dict)


class Metric(Protocol):
    """A measurement of a vocabulary; an instance holds its options.

    Attributes:
        name: Name in the registry.
        needs: What must be in the input beside the vocabulary, of `texts`, `parallel`,
            `embeddings`, `lexicon`, `segmentation`.
        is_default: Whether an audit that names no metrics includes it.
        is_per_token: Whether the text counts only through how often each token occurs.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    is_default: ClassVar[bool]
    is_per_token: ClassVar[bool]

    def measure(self, given: "AuditInput") -> MetricResult:
        """Return the figure for one vocabulary.

        Args:
            given: Vocabulary, texts and other evidence; its encodings are shared by all metrics.
        """
        ...
